// Subscribe a receiver and emit an event, with the types that openapi-typescript generates from the API.
//
// node emit.mjs https://receiver.example.com/webhooks AvailablePointsAmountChanged '{"amount": 180.5, …}'
import { randomUUID } from "node:crypto";
import { argv, env, exit } from "node:process";
import type { components, operations } from "./api.js";

type Schemas = components["schemas"];
type Body<Name extends "createSubscription" | "emitEvent"> =
  operations[Name]["requestBody"]["content"]["application/json"];

const ATTEMPTS = 8;
const TIMEOUT_MS = 15_000;
const STORE = `${env.LOYALTY_WEBHOOKS_API}/api/${env.LOYALTY_WEBHOOKS_STORE ?? "default"}`;

// Return the response body. Repeat the call while the API is away or busy; exit with the body of a refusal.
async function post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
  let reason = "";
  for (let attempt = 0, delay = 0.5; attempt < ATTEMPTS; attempt++, delay *= 2) {
    let wait = delay;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(new Error("no response in time")), TIMEOUT_MS);
    try {
      const response = await fetch(`${STORE}/${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-AUTH-TOKEN": env.LOYALTY_WEBHOOKS_KEY ?? "", ...headers },
        body: JSON.stringify(body),
        signal: timeout.signal,
      });
      if (response.ok) return (await response.json()) as T;
      reason = `${response.status} ${await response.text()}`;
      if (response.status !== 429 && response.status !== 503) break;
      wait = Number(response.headers.get("Retry-After") ?? delay);
    } catch (error) {
      reason = String(error);
    } finally {
      clearTimeout(timer);
    }
    console.error(`again in ${wait} s: ${reason}`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
  }
  console.error(`refused: ${reason}`);
  return exit(1);
}

const [url, name, data] = argv.slice(2);
const eventName = name as Schemas["EmittedEvent"]["eventName"];

// The same key creates one subscription, however often the program runs within 24 hours.
const key = { "Idempotency-Key": `${eventName} ${url}`.replaceAll(" ", "-") };
const subscription: Body<"createSubscription"> = { webhookSubscription: { eventName, url, hmacEnabled: true } };
const created = await post<Schemas["SubscriptionCreated"]>("webhook/subscription", subscription, key);
console.log(`subscribed ${created.webhookSubscriptionId}`);

// An id made before the first attempt makes repeats safe: the API accepts it once.
const event: Body<"emitEvent"> = { event: { eventId: randomUUID(), eventName, data: JSON.parse(data) } };
const accepted = await post<Schemas["Accepted"]>("event", event);
console.log(`accepted ${accepted.eventId}`);
