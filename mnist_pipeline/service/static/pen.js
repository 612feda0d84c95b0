// The pen of the keyboard: arrow keys move it over the paper, space puts it down or lifts it.
// Not here: strokes themselves, which are the paper's.

const STEP = 1 / 20;
const SMALL_STEP = 1 / 100;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pen {
  #at = [0.5, 0.3];
  #down = false;
  #shown = false; // from the first key until the paper is left: who draws with a mouse need not see it

  constructor(canvas, pad) {
    this.pad = pad;
    canvas.addEventListener("keydown", (event) => this.#press(event));
    canvas.addEventListener("blur", () => this.lift());
  }

  lift() {
    if (this.#down) this.pad.end();
    this.#down = this.#shown = false;
    this.pad.refresh();
  }

  /** A ring where the pen is, full while it is down. */
  paint(context, side, colour) {
    if (!this.#shown) return;
    const [x, y] = this.#at;
    context.beginPath();
    context.arc(x * side, y * side, side / 40, 0, 2 * Math.PI);
    context.lineWidth = side / 120;
    context.strokeStyle = context.fillStyle = colour;
    if (this.#down) context.fill();
    context.stroke();
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") this.#toggle();
    else if (event.key in MOVES) this.#move(MOVES[event.key], event.shiftKey ? SMALL_STEP : STEP);
    else return;
    event.preventDefault();
    this.#shown = true;
    this.pad.refresh();
  }

  #toggle() {
    this.#down = !this.#down;
    if (this.#down) this.pad.begin(this.#at);
    else this.pad.end();
  }

  #move([right, down], step) {
    const inside = (value) => Math.min(0.95, Math.max(0.05, value));
    this.#at = [inside(this.#at[0] + right * step), inside(this.#at[1] + down * step)];
    if (this.#down) this.pad.extend([this.#at]);
  }
}
