/** Votes as dots that fall into the columns of their classes, on a canvas. */

/** Time between two dots, and for all of many, at speed 1; how long one falls. Milliseconds. */
const GAP = 45;
const WHOLE = 2200;
const FALL = 380;
const LARGEST = 13; // pixels across

/**
 * Size of a dot and how many lie side by side, so that even all votes of one class fit its column.
 *
 * @param {number} votes @param {number} width of a column @param {number} height @returns {{size: number, side: number}}
 */
export function packing(votes, width, height) {
  for (let size = LARGEST; size > 1; size -= 0.5) {
    const side = odd((width - 3) / size);
    if (Math.ceil(votes / side) * size <= height) return { size, side };
  }
  return { size: 1, side: odd(width - 3) };
}

/** The largest odd number up to one, so that there is a middle. @param {number} most */
function odd(most) {
  return Math.max(1, 2 * Math.floor((most + 1) / 2) - 1);
}

/** Places of a row of dots from its middle outwards: 0, 1, -1, 2, -2, … @param {number} rank @param {number} side */
export function aside(rank, side) {
  const place = rank % side;
  return place % 2 ? (place + 1) / 2 : -place / 2;
}

const falling = new Set();

function tick(now) {
  for (const dots of falling) if (!dots.advance(now)) falling.delete(dots);
  if (falling.size) requestAnimationFrame(tick);
}

function start(dots) {
  if (falling.size === 0) requestAnimationFrame(tick);
  falling.add(dots);
}

export class Dots {
  /** Classes of the votes by their number. @type {number[]} */
  order = [];
  picked = -1;
  #canvas;
  #settled = document.createElement("canvas");
  #onLand;
  #classes = 1;
  #votes = 1;
  #speed = 1;
  #released = [];
  #landed = 0;
  #leader = -1;
  #size = { size: LARGEST, side: 1 };
  #box = { width: 0, height: 0, ratio: 1 };
  #colours = { winner: "#000", other: "#999", ring: "#f00" };

  /** @param {HTMLCanvasElement} canvas @param {(landed: number) => number} onLand told how many have, says who leads */
  constructor(canvas, onLand) {
    this.#canvas = canvas;
    this.#onLand = onLand;
  }

  /** @param {number} classes @param {number} votes @param {number} speed 0: all at once */
  begin(classes, votes, speed) {
    [this.#classes, this.#votes, this.#speed] = [classes, votes, speed];
    [this.order, this.#released, this.#landed, this.#leader, this.picked] = [[], [], 0, -1, -1];
    this.#tellStill();
    this.resize();
  }

  /** Take size and colours from the page. */
  resize() {
    const [box, style] = [this.#canvas.getBoundingClientRect(), getComputedStyle(this.#canvas)];
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.#box = { width: box.width, height: box.height, ratio };
    for (const canvas of [this.#canvas, this.#settled]) {
      [canvas.width, canvas.height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    }
    const [winner, other, ring] = ["--lane", "--dot", "--ink"].map((name) => style.getPropertyValue(name).trim());
    this.#colours = { winner, other, ring };
    this.#size = packing(this.#votes, box.width / this.#classes, box.height);
    this.#repaint();
    this.#show([]);
  }

  /** Let more votes fall. @param {number[]} classes */
  push(classes) {
    const gap = this.#speed > 0 ? Math.min(GAP, WHOLE / this.#votes) / this.#speed : 0;
    for (const each of classes) {
      const next = this.#released.length ? this.#released.at(-1) + gap : 0;
      this.#released.push(Math.max(performance.now(), next));
      this.order.push(each);
    }
    if (this.#speed === 0) this.#landAll();
    else start(this);
  }

  /** Let all of them fall again. @param {number} speed */
  replay(speed) {
    const order = this.order;
    this.begin(this.#classes, this.#votes, speed);
    this.push(order);
  }

  /** All fallen. */
  get still() {
    return this.#landed === this.order.length;
  }

  /** Wait until all have fallen, or are taken away. @returns {Promise<void>} */
  whenStill() {
    return new Promise((resolve) => {
      if (this.still) resolve();
      else this.#waiting.push(resolve);
    });
  }

  #waiting = [];

  #tellStill() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Number of the vote at a place of the canvas, or -1. @param {number} x @param {number} y */
  at(x, y) {
    const reach = Math.max(6, this.#size.size / 2);
    const ranks = new Array(this.#classes).fill(0);
    let [best, least] = [-1, reach];
    this.order.slice(0, this.#landed).forEach((each, i) => {
      const [dotX, dotY] = this.#slot(each, ranks[each]++);
      const distance = Math.hypot(dotX - x, dotY - y);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  /** Mark a vote; -1: none. @param {number} vote */
  pick(vote) {
    this.picked = vote;
    this.#repaint();
    this.#show([]);
  }

  /** One frame; false once all have fallen. @param {number} now */
  advance(now) {
    const fall = FALL / Math.sqrt(this.#speed || 1);
    const before = this.#landed;
    while (this.#landed < this.order.length && now >= this.#released[this.#landed] + fall) this.#landed += 1;
    if (this.#landed > before) this.#settle(before);
    const [moving, ranks] = [[], [...this.#ranks]];
    for (let i = this.#landed; i < this.order.length && this.#released[i] <= now; i += 1) {
      const [x, y] = this.#slot(this.order[i], ranks[this.order[i]]++);
      const part = Math.max(0, Math.min(1, (now - this.#released[i]) / fall));
      moving.push([x, this.#size.size / 2 + (y - this.#size.size / 2) * part * part]);
    }
    this.#show(moving);
    if (this.still) this.#tellStill();
    return !this.still;
  }

  #ranks = [];

  /** Draw those that have landed since there were fewer. @param {number} before */
  #settle(before) {
    const leader = this.#onLand(this.#landed);
    if (leader !== this.#leader) {
      this.#leader = leader;
      this.#repaint();
      return;
    }
    const context = this.#settled.getContext("2d");
    for (const each of this.order.slice(before, this.#landed)) this.#dot(context, each, this.#ranks[each]++);
  }

  #landAll() {
    this.#landed = this.order.length;
    this.#leader = this.#onLand(this.#landed);
    this.#repaint();
    this.#show([]);
    this.#tellStill();
  }

  #slot(each, rank) {
    const [{ size, side }, { width, height }] = [this.#size, this.#box];
    const x = ((each + 0.5) * width) / this.#classes + aside(rank, side) * size;
    return [x, height - (Math.floor(rank / side) + 0.5) * size];
  }

  #dot(context, each, rank, ring = false) {
    const [[x, y], ratio, radius] = [this.#slot(each, rank), this.#box.ratio, Math.max(0.5, this.#size.size / 2 - 0.8)];
    context.fillStyle = each === this.#leader ? this.#colours.winner : this.#colours.other;
    context.beginPath();
    context.arc(x * ratio, y * ratio, radius * ratio, 0, 2 * Math.PI);
    context.fill();
    if (!ring) return;
    Object.assign(context, { lineWidth: 2 * ratio, strokeStyle: this.#colours.ring });
    context.stroke();
  }

  #repaint() {
    const context = this.#settled.getContext("2d");
    context.clearRect(0, 0, this.#settled.width, this.#settled.height);
    this.#ranks = new Array(this.#classes).fill(0);
    for (let i = 0; i < this.#landed; i += 1) {
      const each = this.order[i];
      this.#dot(context, each, this.#ranks[each]++, i === this.picked);
    }
  }

  #show(moving) {
    const [context, { ratio }] = [this.#canvas.getContext("2d"), this.#box];
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (this.#settled.width && this.#settled.height) context.drawImage(this.#settled, 0, 0);
    context.fillStyle = this.#colours.other;
    context.beginPath();
    for (const [x, y] of moving) {
      context.moveTo(x * ratio, y * ratio);
      context.arc(x * ratio, y * ratio, Math.max(0.5, this.#size.size / 2 - 0.8) * ratio, 0, 2 * Math.PI);
    }
    context.fill();
  }
}
