// What is told besides answers: problems, the token that is missing, news about versions; and reading out.
// Not here: answers, and what to do about a problem.

import { hasToken, useToken } from "./service.js";
import { sentence } from "./words.js";

const PAUSE = 700; // ms without a change after which something is read out
const TITLES = {
  no_model: "No model is deployed yet",
  unreachable: "The service cannot be reached",
  busy: "The service is busy",
  too_large: "This photo is too large",
  unreadable: "This file cannot be read",
};
const PAGE_WAITS = {
  no_model: "This page goes on by itself as soon as there is one.",
  unreachable: "This page tries again every two seconds.",
  busy: "This page tries again by itself.",
};
const $ = (id) => document.getElementById(id);
let waiting = 0;
let code = null; // of the problem that is shown

/** Whether the problem that is shown is the service's, so that a drawing is not to blame. */
export function serviceIsDown() {
  return ["no_model", "unreachable", "unauthorized"].includes(code);
}

/** A Problem in place of the answer; for want of a token, the form that asks for it. */
export function tell(problem) {
  const same = code === problem.code;
  code = problem.code;
  $("verdict").hidden = true;
  if (code === "unauthorized") return askForToken(same);
  const text = [sentence(problem.message), PAGE_WAITS[code] ?? ""].join(" ").trim();
  const title = TITLES[code] ?? "No answer";
  const spoken = `${title}. ${text.replaceAll("`", "")}`;
  $("token-form").hidden = true;
  $("problem").hidden = false;
  if ($("problem").textContent.trim() === spoken) return;
  $("problem-title").textContent = `${title}. `;
  $("problem-text").replaceChildren(...withCode(text));
  announce(spoken);
}

/** Whatever was wrong is over. */
export function solved() {
  code = null;
  $("problem").hidden = $("token-form").hidden = true;
  $("verdict").hidden = false;
}

/** That another decision is served. `before` and `now`: champions as /model tells them. */
export function tellNews(before, now) {
  const what = before.version === now.version ? "The same version answers on" : `Version ${now.version} answers`;
  $("news").textContent = `${what}, by decision ${now.decision}. Seen at ${new Date().toLocaleTimeString()}.`;
  $("news").hidden = false;
  announce(`${what}.`);
}

/** A decision that the service does not follow; null: there is none. */
export function tellRefused(refused) {
  $("refused").hidden = !refused;
  if (!refused) return;
  const { decision, version, reason } = refused;
  const text = `Decision ${decision} wants version ${version}, but it was refused, and the version above serves on. ${sentence(reason)}`;
  if ($("refused").textContent !== text) $("refused").textContent = text;
}

/** Read out once nothing new has been said for a moment, so that drawing is not talked over. */
export function announce(text, busy = () => false) {
  clearTimeout(waiting);
  waiting = setTimeout(() => (busy() ? announce(text, busy) : ($("announcer").textContent = text)), PAUSE);
}

/** `retry()` is called when there is another token. */
export function onToken(retry) {
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken($("token").value);
    $("token").value = "";
    $("token-form").hidden = true;
    retry();
  });
}

function askForToken(again) {
  $("problem").hidden = true;
  if (!$("token-form").hidden) return;
  if (again && hasToken()) $("token-why").textContent = "That token was not accepted. Try another.";
  $("token-form").hidden = false;
  $("token").focus();
  announce("This service asks for a token.");
}

/** `make run` in a message as <code>. */
function withCode(text) {
  return text.split("`").map((part, i) => {
    if (i % 2 === 0) return part;
    const element = document.createElement("code");
    element.textContent = part;
    return element;
  });
}
