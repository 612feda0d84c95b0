// Shows an answer: the label, how sure, bars, what the network saw, who said so. Not here: asking for it.

import { either, inWords, milliseconds, percent } from "./words.js";

export const UNDECIDED = "Not sure enough to say which";
const $ = (id) => document.getElementById(id);
const bars = new Map(); // class -> {item, bar, share}

/** An answer of the service, with `roundTrip`. `reason`: why there is no label. */
export function show(answer, reason) {
  if (answer.label === null && either(answer.set)) showLabel("?", UNDECIDED, "");
  else if (answer.label === null) showNothing("No answer", reason);
  else showLabel(answer.label, inWords(answer.confidence), percent(answer.confidence));
  $("either").textContent = either(answer.set);
  showBars(answer.probabilities ?? {}, answer.label);
  showSeen(answer.seen);
  $("served-by").textContent = answer.served_by;
  $("took").textContent = milliseconds(answer.milliseconds);
  $("round-trip").textContent = milliseconds(answer.roundTrip);
  showVersion(answer.model_version, answer.decision);
}

/** No label, and why: nothing drawn, or no digit in it. */
export function showNothing(title, text) {
  showLabel("–", title, text);
  $("either").textContent = "";
  showBars({}, null);
  showSeen(null);
  for (const id of ["served-by", "took", "round-trip"]) $(id).textContent = "–";
}

export function showVersion(version, decision) {
  $("facts").hidden = false;
  if ($("version").textContent === version && $("decision").textContent === String(decision)) return;
  // It may be broken after a hyphen: a name is 50 characters long.
  $("version").replaceChildren(...version.split(/(?<=-)/).flatMap((part) => [part, document.createElement("wbr")]));
  $("decision").textContent = decision;
}

/** The bars of these classes, in this order, all empty; nothing happens when they are there. */
export function makeBars(names) {
  if (names.length === bars.size && names.every((name) => bars.has(name))) return;
  bars.clear();
  $("bars").replaceChildren(...names.map(makeBar));
  $("bars").classList.toggle("many", names.length > 12);
}

function makeBar(name) {
  const [item, title, track, bar, share] = ["li", "span", "span", "span", "span"].map((tag) => document.createElement(tag));
  title.className = "name";
  title.textContent = name;
  track.className = "track";
  track.append(bar);
  share.className = "share";
  share.textContent = "0 %";
  item.append(title, track, share);
  bars.set(name, { item, bar, share });
  return item;
}

function showBars(probabilities, label) {
  const names = Object.keys(probabilities);
  if (names.length) makeBars(sameSet(names) ? [...bars.keys()] : names);
  for (const [name, { item, bar, share }] of bars) {
    const value = probabilities[name] ?? 0;
    bar.style.transform = `translateX(${100 * value - 100}%)`;
    bar.style.visibility = value < 0.001 ? "hidden" : "visible"; // its round end would show
    share.textContent = percent(value);
    item.classList.toggle("best", name === label);
  }
}

function sameSet(names) {
  return names.length === bars.size && names.every((name) => bars.has(name));
}

function showLabel(label, title, text) {
  $("label").textContent = label;
  $("label").dataset.size = label.length > 8 ? "small" : label.length > 2 ? "middle" : "big";
  $("label").classList.toggle("none", ["–", "?"].includes(label));
  $("sure").textContent = title;
  $("percent").textContent = text;
}

/** 28 × 28 grey pixels, light ink on black, as rows or in a row. */
function showSeen(pixels) {
  const canvas = $("seen");
  const context = canvas.getContext("2d");
  const image = context.createImageData(28, 28);
  const grey = (pixels ?? []).flat(2);
  grey.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", grey.length ? "The drawing, made 28 by 28 pixels" : "Nothing seen yet");
  canvas.classList.toggle("empty", !grey.length);
}
