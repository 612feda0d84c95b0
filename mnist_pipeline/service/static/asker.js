// Asks about what is on the paper: one request at a time, and the newest drawing always last.
// Not here: how an answer or a problem looks.

import { MOST_BYTES, redrawn } from "./photo.js";
import { predict, Problem } from "./service.js";

const REST = 100; // ms between two requests: ten answers a second look like one that changes
const REDRAW_FOR = ["too_large", "unreadable"]; // a photo of a kind, or a size, that this browser can make smaller

export class Asker {
  #wanted = false;
  #running = false;
  #done = Promise.resolve();

  /** `answered({image, answer})`, `failed(problem)`, `blank()`: what is done with what comes of it. */
  constructor(pad, { answered, failed, blank }) {
    this.pad = pad;
    this.answered = answered;
    this.failed = failed;
    this.blank = blank;
    this.redrawn = new WeakMap(); // photo -> what is sent in its place
    pad.addEventListener("change", () => this.ask());
  }

  /** Whether what is shown may still change by itself. */
  get busy() {
    return this.#running || this.#wanted;
  }

  /** When the newest drawing has its answer. */
  settled() {
    return this.#done;
  }

  /** Ask about what is on the paper now, as soon as the request on its way is done. */
  ask() {
    this.#wanted = true;
    if (this.pad.empty) this.blank(); // at once: there is nothing to wait for
    if (!this.#running) this.#done = this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#wanted) {
      this.#wanted = false;
      if (this.pad.empty) continue;
      await this.#once(this.pad.subject);
      await sleep(REST);
    }
    this.#running = false;
  }

  async #once(subject) {
    const current = () => subject === this.pad.subject;
    try {
      const result = await this.#predict(await this.pad.image());
      if (current()) this.answered(result, this.#wanted);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (current()) this.failed(problem);
      if (problem.code === "busy") await this.#again(problem.retryAfter || 1);
    }
  }

  async #again(seconds) {
    await sleep(seconds * 1000);
    this.#wanted = true;
  }

  async #predict(image) {
    const known = this.redrawn.get(image) ?? (image.size > MOST_BYTES ? await this.#redraw(image) : image);
    try {
      return { image: known, answer: await predict(known, this.pad.drawing) };
    } catch (problem) {
      const other = REDRAW_FOR.includes(problem.code) && known === this.pad.photo ? await this.#redraw(image) : image;
      if (other === image) throw problem;
      return { image: other, answer: await predict(other, false) };
    }
  }

  async #redraw(photo) {
    const other = await redrawn(photo);
    if (other) this.redrawn.set(photo, other);
    return other ?? photo;
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
