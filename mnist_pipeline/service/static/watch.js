// Watches what serves, every two seconds while the page is seen. Not here: what is done when it changes.

import { model, Problem } from "./service.js";

const EVERY = 2000; // ms

/** `seen(model)` each time the service tells, `failed(problem)` each time it does not. Returns how to look at once. */
export function watch({ seen, failed }) {
  let timer = 0;
  async function look() {
    clearTimeout(timer);
    try {
      seen(await model());
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      failed(problem);
    } finally {
      clearTimeout(timer); // of a look that began while this one waited
      if (!document.hidden) timer = setTimeout(look, EVERY);
    }
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
  look();
  return look;
}
