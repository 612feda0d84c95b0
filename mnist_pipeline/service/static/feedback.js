// "It was a 7": buttons for the classes, and the thanks. Not here: which classes there are.

import { Problem, teach } from "./service.js";
import { sentence, withArticle } from "./words.js";

const $ = (id) => document.getElementById(id);
let about = null; // {image, answer} that a button would be about
let names = [];

/** A button for each class. `settled()`: when the answer is the last one about this drawing. */
export function offer(classes, settled) {
  if (classes.join("\n") === names.join("\n")) return;
  names = classes;
  $("classes").replaceChildren(...classes.map((name) => makeButton(name, settled)));
  $("classes").classList.toggle("short", classes.length <= 10 && classes.every((name) => name.length <= 2));
}

/** From now on a button is about this image and answer; null: there is none to be wrong. */
export function askAbout(result) {
  const same = about && result && about.image === result.image; // another answer about what was told already
  about = result;
  if (same) return;
  $("wrong").hidden = !about;
  if ($("thanks").textContent) $("thanks").textContent = "";
  lock(null);
}

function makeButton(name, settled) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.setAttribute("aria-label", `It was ${withArticle(name)}`);
  button.addEventListener("click", () => keep(name, button, settled));
  return button;
}

/** Once for each answer: the same image under two labels would teach nothing. */
async function keep(label, button, settled) {
  if (!about || button.getAttribute("aria-disabled") === "true") return;
  lock(button);
  await settled(); // who is quick means the drawing as it is now, not as it was answered last
  if (!about) return;
  const asked = about;
  lock(button);
  try {
    await teach(asked.image, label, asked.answer.request_id);
    if (about?.image === asked.image) $("thanks").textContent = `Thank you. It is kept as ${withArticle(label)}, to learn from.`;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (about?.image !== asked.image) return;
    lock(null);
    $("thanks").textContent = `It was not kept. ${sentence(problem.message)}`;
  }
}

/** aria-disabled, not disabled: a disabled button would lose the focus of who just pressed it. */
function lock(chosen) {
  for (const button of $("classes").children) {
    button.setAttribute("aria-disabled", String(chosen !== null));
    button.setAttribute("aria-pressed", String(button === chosen));
  }
}
