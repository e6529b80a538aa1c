<?php
// Subscribe a receiver and emit an event, by hand: nothing but PHP.
//
// php emit.php https://receiver.example.com/webhooks AvailablePointsAmountChanged '{"amount": 180.5, …}'
declare(strict_types=1);

const ATTEMPTS = 8;

/** Return the response body. Repeat the call while the API is away or busy; exit with the body of a refusal. */
function post(string $path, string $body, string ...$headers): array
{
    $store = getenv('LOYALTY_WEBHOOKS_STORE') ?: 'default';
    $headers[] = 'Content-Type: application/json';
    $headers[] = 'X-AUTH-TOKEN: ' . getenv('LOYALTY_WEBHOOKS_KEY');
    $http = ['method' => 'POST', 'header' => $headers, 'content' => $body, 'timeout' => 15, 'ignore_errors' => true];
    $reason = '';
    for ($attempt = 0, $delay = 0.5; $attempt < ATTEMPTS; $attempt++, $delay *= 2) {
        $http_response_header = [];
        $url = getenv('LOYALTY_WEBHOOKS_API') . "/api/$store/$path";
        $answer = @file_get_contents($url, false, stream_context_create(['http' => $http]));
        $wait = $delay;
        if ($answer === false || !$http_response_header) {
            $reason = error_get_last()['message'] ?? 'no response';
        } else {
            $status = (int) explode(' ', $http_response_header[0])[1];
            if ($status < 300) {
                return json_decode($answer, true);
            }
            $reason = "$status $answer";
            if ($status !== 429 && $status !== 503) {
                break;
            }
            foreach ($http_response_header as $line) {
                if (stripos($line, 'Retry-After:') === 0) {
                    $wait = (float) substr($line, strlen('Retry-After:'));
                }
            }
        }
        fwrite(STDERR, "again in $wait s: $reason\n");
        usleep((int) ($wait * 1e6));
    }
    fwrite(STDERR, "refused: $reason\n");
    exit(1);
}

/** Return a random UUID. */
function uuid(): string
{
    $bytes = random_bytes(16);
    $bytes[6] = chr(ord($bytes[6]) & 0x0f | 0x40);
    $bytes[8] = chr(ord($bytes[8]) & 0x3f | 0x80);
    return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($bytes), 4));
}

[, $url, $eventName, $data] = $argv;

// The same key creates one subscription, however often the program runs within 24 hours.
$key = str_replace(' ', '-', "$eventName $url");
$subscription = ['eventName' => $eventName, 'url' => $url, 'hmacEnabled' => true];
$created = post('webhook/subscription', json_encode(['webhookSubscription' => $subscription]), "Idempotency-Key: $key");
echo "subscribed {$created['webhookSubscriptionId']}\n";

// An id made before the first attempt makes repeats safe: the API accepts it once. The data is sent as it is given,
// because PHP's floats would round long numbers.
$head = json_encode(['eventId' => uuid(), 'eventName' => $eventName]);
$accepted = post('event', '{"event": ' . substr($head, 0, -1) . ', "data": ' . $data . '}}');
echo "accepted {$accepted['eventId']}\n";
