// Requests to the core. A problem becomes an Error with its status and the core's own sentence.

import { language, say } from "./words.js";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function ask(method, path, body) {
  const headers = { Accept: "application/json", "Accept-Language": language, "X-Requested-With": "iot" };
  if (method !== "GET") headers["Idempotency-Key"] = newKey();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signal = AbortSignal.timeout(20_000);
  const response = await fetch(`/api/v1${path}`, { method, headers, body: body && JSON.stringify(body), signal }).catch(() => {
    throw new Problem(0, say("no_answer")); // the browser's own words are in its language, and say nothing
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer.detail ?? response.statusText);
  return answer;
}
