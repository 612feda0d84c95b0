// The page: what happens when. Drawing is in pad.js, asking in asker.js, showing in answer.js, feedback.js, notices.js.

import { makeBars, show, showNothing, showVersion, UNDECIDED } from "./answer.js";
import { Asker } from "./asker.js";
import { askAbout, offer } from "./feedback.js";
import { takeIn } from "./intake.js";
import { announce, onToken, serviceIsDown, solved, tell, tellNews, tellRefused } from "./notices.js";
import { Pad } from "./pad.js";
import { watch } from "./watch.js";
import { either, inWords, percent, sentence } from "./words.js";

const WITHOUT_A_DIGIT = {
  drawing: "Draw on, larger or clearer, or clear the paper.",
  photo: "Try a photo of one, dark on a plain light page.",
};
const $ = (id) => document.getElementById(id);
const pad = new Pad($("drawing"));
const asker = new Asker(pad, { answered, failed, blank });
const look = watch({ seen, failed: (problem) => isOfTheService(problem) && failed(problem) });
let serving = null; // the champion that /model told last; null while there is none to be had

takeIn(pad);
onToken(look);

function answered(result, more) {
  const { label, confidence, set } = result.answer;
  const nothing = label === null && !either(set);
  solved();
  if (nothing && (pad.drawing || more)) return; // a stroke that has just begun is no digit yet
  const reason = nothing ? `${sentence(result.answer.reason)} ${WITHOUT_A_DIGIT[pad.photo ? "photo" : "drawing"]}` : "";
  show(result.answer, reason);
  askAbout(nothing ? null : result);
  const sure = label === null ? `${UNDECIDED}.` : `${label}. ${inWords(confidence)}, ${percent(confidence)}.`;
  const spoken = reason || [sure, either(set)].join(" ").trim();
  announce(spoken, () => pad.drawing || asker.busy);
}

function blank() {
  showNothing("Nothing drawn yet", "The answer appears here.");
  askAbout(null);
  if (!serviceIsDown()) solved();
}

function failed(problem) {
  if (isOfTheService(problem)) serving = null; // once it is back, the drawing is asked again
  showNothing("No answer", "");
  askAbout(null);
  tell(problem);
}

function isOfTheService(problem) {
  return ["no_model", "unreachable", "unauthorized"].includes(problem.code);
}

function seen({ champion, refused, class_names: names }) {
  const before = serving;
  serving = champion;
  $("title").textContent = document.title = names.every((name) => /^\d$/.test(name)) ? "Draw a digit" : "Draw, or show a photo";
  makeBars(names);
  offer(names, () => asker.settled());
  if (before?.decision !== champion.decision || pad.empty) showVersion(champion.version, champion.decision);
  tellRefused(refused);
  if (serviceIsDown()) solved();
  if (before && before.decision !== champion.decision) tellNews(before, champion);
  if (before?.decision !== champion.decision) asker.ask();
}

function clear() {
  if (pad.empty) return;
  pad.clear();
  announce("Cleared.");
}

pad.addEventListener("change", () => {
  // aria-disabled, not disabled: the button just pressed keeps the focus.
  $("undo").setAttribute("aria-disabled", !pad.canUndo);
  $("clear").setAttribute("aria-disabled", pad.empty);
  $("hint").hidden = !pad.empty;
});
$("undo").addEventListener("click", () => pad.undo());
$("clear").addEventListener("click", clear);
addEventListener("keydown", (event) => {
  if (event.target.matches("input")) return; // its own undo, its own delete
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") pad.undo();
  else if (["Escape", "Delete"].includes(event.key)) clear();
  else return;
  event.preventDefault();
});
