/** The drawing surface: strokes of mouse, pen or finger, as whole points of 0 … 255. */

import { MOST_POINTS, MOST_STROKES, SURFACE } from "./codec.js";

/** Movements shorter than this many points are left out: they are the hand's trembling, or the device's. */
const LEAST_MOVE = 2;
/** Width of the shown line, in points: what the sent image's is, where a digit fills the surface. */
const WIDTH = 20;

export class Surface extends EventTarget {
  /** @type {import("./mnist.js").Stroke[]} */
  strokes = [];
  #canvas;
  #pen = null;
  #shown = null;
  enabled = true;

  /** Tells `begin` when a pen touches, `drawn` while it moves, `lifted` after. @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.#canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
  }

  /** @param {import("./mnist.js").Stroke[]} strokes */
  show(strokes) {
    this.strokes = strokes;
    this.#shown = null;
    this.#paint();
  }

  /** Show a picture instead. @param {HTMLCanvasElement | null} picture */
  showPicture(picture) {
    this.strokes = [];
    this.#shown = picture;
    this.#paint();
  }

  undo() {
    this.strokes = this.strokes.slice(0, -1);
    this.#paint();
    this.#tell("drawn");
  }

  get #points() {
    return this.strokes.reduce((sum, stroke) => sum + stroke.length, 0);
  }

  #down(event) {
    if (!this.enabled || this.#pen !== null || event.button > 0) return;
    event.preventDefault();
    this.#tell("begin");
    if (this.strokes.length === MOST_STROKES || this.#points >= MOST_POINTS) return;
    this.#pen = event.pointerId;
    try {
      this.#canvas.setPointerCapture(event.pointerId);
    } catch {
      // a pointer that has gone already, or one that a script made, cannot be captured; its events come all the same
    }
    this.#shown = null;
    this.strokes = [...this.strokes, [this.#at(event)]];
    this.#paint();
    this.#tell("drawn");
  }

  #move(event) {
    if (event.pointerId !== this.#pen) return;
    event.preventDefault();
    const passed = event.getCoalescedEvents?.() ?? [];
    const stroke = [...this.strokes.at(-1)];
    let room = MOST_POINTS - this.#points;
    for (const each of passed.length ? passed : [event]) {
      const [x, y] = this.#at(each);
      const [lastX, lastY] = stroke.at(-1);
      if (room > 0 && Math.max(Math.abs(x - lastX), Math.abs(y - lastY)) >= LEAST_MOVE) {
        stroke.push([x, y]);
        room -= 1;
      }
    }
    if (stroke.length === this.strokes.at(-1).length) return;
    this.strokes = [...this.strokes.slice(0, -1), stroke];
    this.#paint();
    this.#tell("drawn");
  }

  #up(event) {
    if (event.pointerId !== this.#pen) return;
    this.#pen = null;
    this.#tell("lifted");
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const along = (value, start, length) =>
      Math.min(SURFACE - 1, Math.max(0, Math.round(((value - start) / length) * SURFACE)));
    return [along(event.clientX, box.left, box.width), along(event.clientY, box.top, box.height)];
  }

  #paint() {
    const [context, side] = [this.#canvas.getContext("2d"), this.#canvas.width];
    context.clearRect(0, 0, side, side);
    if (this.#shown) {
      context.imageSmoothingEnabled = false;
      context.drawImage(this.#shown, 0, 0, side, side);
      return;
    }
    const scale = side / SURFACE;
    Object.assign(context, { lineWidth: WIDTH * scale, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    for (const stroke of this.strokes) {
      context.beginPath();
      stroke.forEach(([x, y], i) => (i ? context.lineTo(x * scale, y * scale) : context.moveTo(x * scale, y * scale)));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * scale + 0.01, stroke[0][1] * scale);
      context.stroke();
    }
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}
