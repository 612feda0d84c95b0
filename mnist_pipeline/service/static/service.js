// What the page asks the service, and the token that it asks with. Not here: when it is asked, what is shown.

import { redrawn } from "./photo.js";

const TOKEN = "service-token";
const MOST_TO_TEACH = 7_000_000; // bytes of an image, which are a third more in base64: the service takes 10 million
const PATIENCE = 20_000; // ms until a request counts as lost
const WHO = `page-${Math.random().toString(36).slice(2)}`; // one model answers all of a drawing, where two share
let token = kept();

/** Why there is no answer; `message` is for a person, `code` is the service's, or "unreachable". */
export class Problem extends Error {
  constructor(code, message, retryAfter = 0) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter; // seconds; 0 where the service did not say
  }
}

/** The answer about one image, with `roundTrip` in ms. `image`: a Blob, sent as it is. `draft`: whether the pen is
 *  still at work, so that reports about what people ask can leave it out. Throws Problem. */
export async function predict(image, draft) {
  const start = performance.now();
  // The type is stated, since JSON and multipart are read otherwise, and a dropped file may be anything.
  const type = image.type.startsWith("image/") ? image.type : "image/x-unknown";
  const answer = await call(`predict?seen=true${draft ? "&draft=true" : ""}`, { method: "POST", body: image, headers: { "Content-Type": type, "X-Routing-Key": WHO } });
  return { ...answer, roundTrip: performance.now() - start };
}

/** Have an image kept with what it shows, a large photo made smaller. Throws Problem. */
export async function teach(image, label, requestId) {
  const small = (image.size > MOST_TO_TEACH && (await redrawn(image))) || image;
  const body = JSON.stringify({ image: await base64(small), label, request_id: requestId });
  return call("feedback", { method: "POST", body, headers: { "Content-Type": "application/json" } });
}

/** What serves now. Throws Problem. */
export function model() {
  return call("model");
}

/** Send this token from now on, in this tab. */
export function useToken(given) {
  token = given.trim();
  if (!canBeSent(token)) return; // nothing to come back to after a reload
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {
    // Storage is blocked in this browser: the token is asked for again after a reload.
  }
}

export function hasToken() {
  return Boolean(token);
}

function kept() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return null; // blocked, as above
  }
}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token && !canBeSent(token)) throw new Problem("unauthorized", "A token has letters, digits and signs of ASCII only.");
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const response = await reach(path, { ...options, headers });
  const said = await response.json().catch(() => ({}));
  if (response.ok) return said;
  const text = said.error ?? `The service answered ${response.status} and did not say why. Try again.`;
  throw new Problem(said.code ?? "unknown", text, Number(response.headers.get("Retry-After")) || 0);
}

/** Of ASCII, without white space: a header takes nothing else. */
function canBeSent(given) {
  return /^[!-~]*$/.test(given);
}

async function reach(path, options) {
  try {
    return await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Problem("unreachable", "The service does not answer. See whether it still runs.");
  }
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Problem("unreadable", "The file can no longer be read. Choose it again."));
    reader.readAsDataURL(blob);
  });
}
