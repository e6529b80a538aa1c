// Reads JSON lines {"body", "headers", "key"} (body as base64) from standard input and writes for each true when
// standardwebhooks accepts it, else false, one a line.
import { createInterface } from "node:readline";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { body, headers, key } = JSON.parse(line);
  let accepted = true;
  try {
    new Webhook(key).verify(Buffer.from(body, "base64"), headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    accepted = false;
  }
  console.log(accepted);
}
