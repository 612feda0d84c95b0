// The paper: strokes by mouse, pen, finger or keyboard, or a photo instead; undo; what of it is sent.
// Not here: what is answered, buttons and shortcuts of the page.

import { Pen } from "./pen.js";

const SENT_SIDE = 160; // pixels, whatever the screen has: equal drawings are equal files, read in half the time of 280
const WIDTH = 0.09; // of a stroke, as a share of the side: of a digit 2/3 as tall, what MNIST's are (2.9 of 20 pixels)

/** Tells by "change" when there is something else on the paper. Coordinates are shares of its side. */
export class Pad extends EventTarget {
  strokes = []; // each a list of [x, y]
  photo = null;
  subject = 0; // another number whenever an answer on its way would be about something that is gone
  #before = []; // what undo goes back to
  #stroke = null; // the one being drawn
  #image = null; // what is sent, until there is something else on the paper: asked twice, it is the same Blob
  #frame = 0;

  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.pen = new Pen(canvas, this);
    this.#listen();
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  get empty() {
    return !this.photo && !this.strokes.length;
  }

  get drawing() {
    return this.#stroke !== null;
  }

  get canUndo() {
    return this.#before.length > 0;
  }

  begin(point) {
    this.#remember();
    if (this.photo) this.subject++;
    this.photo = null;
    this.#stroke = [point];
    this.strokes = [...this.strokes, this.#stroke];
    this.#changed();
  }

  extend(points) {
    this.#stroke?.push(...points);
    this.#changed();
  }

  end() {
    if (!this.#stroke) return;
    this.#stroke = null;
    this.#changed();
  }

  undo() {
    if (!this.canUndo) return;
    this.#replace(this.#before.pop());
  }

  clear() {
    if (this.empty) return;
    this.#remember();
    this.#replace({ strokes: [], photo: null });
  }

  show(photo) {
    this.#remember();
    this.#replace({ strokes: [], photo });
  }

  /** What the service is sent: the file as it is, or the drawing in black on white, in the dark too. */
  image() {
    this.#image ??= this.photo ? Promise.resolve(this.photo) : this.#drawn();
    return this.#image;
  }

  #drawn() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SENT_SIDE;
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
    paint(context, this.strokes, SENT_SIDE, "black");
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Draw again on the screen, once a frame at most. */
  refresh() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #remember() {
    this.#before.push({ strokes: this.strokes, photo: this.photo });
  }

  #replace({ strokes, photo }) {
    this.#stroke = null;
    this.pen.lift();
    this.strokes = strokes;
    this.photo = photo;
    this.subject++;
    this.#changed();
  }

  #changed() {
    this.#image = null;
    this.refresh();
    this.dispatchEvent(new Event("change"));
  }

  #draw() {
    this.#frame = 0;
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    paint(context, this.strokes, side, style.color);
    this.pen.paint(context, side, style.accentColor);
  }

  #listen() {
    const canvas = this.canvas;
    let pointer = null; // one at a time: a palm or a second finger is not a second pen
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || pointer !== null) return;
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      this.pen.lift();
      this.begin(this.#place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== pointer) return;
      const all = event.getCoalescedEvents?.() ?? [];
      this.extend((all.length ? all : [event]).map((each) => this.#place(each)));
    });
    for (const over of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(over, (event) => {
        if (event.pointerId !== pointer) return;
        pointer = null;
        this.end();
      });
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
}

/** Strokes with round ends, curved through the middles between points. `side` in pixels. */
function paint(context, strokes, side, ink) {
  context.strokeStyle = ink;
  context.lineWidth = WIDTH * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [x, y] = points[i];
      const [nextX, nextY] = points[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    const [x, y] = points.at(-1);
    context.lineTo(x + 0.01, y); // not where it began: a dot is a line with round ends, and needs a length
    context.stroke();
  }
}
