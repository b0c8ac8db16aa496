/**
 * A drawing as MNIST's images and de Jong's pen strokes have digits.
 *
 * Both networks see the same placement of the drawing: scaled so that the pen's path is SPAN pixels in its longer
 * direction, and moved so that the ink's centre of mass is MNIST's. What follows is pure: numbers in, numbers out.
 *
 * @typedef {[number, number]} Point x to the right, y down
 * @typedef {Point[]} Stroke
 */

/** Pixels of an image's side. */
export const SIDE = 28;
/** Longer side of the pen's path: the median of MNIST's test digits, whose ink then fills the box of 20 pixels. */
export const SPAN = 17;
/** MNIST's centre of mass, as an index of pixels. */
export const CENTRE = 14;
/** Stroke width and width of its soft edge: of what was tried, what made MNIST's pen strokes, redrawn, read best. */
export const PEN = 2.3;
export const EDGE = 1.3;
/** Points that `stroke-lstm` reads; of more it reads the first. */
export const MOST_POINTS = 56;

/**
 * Scale and move strokes into the 28×28 frame.
 *
 * @param {Stroke[]} strokes in units of a square surface
 * @param {number} surface the surface's side; a path shorter than an eighth of it stays small, as a dot should
 * @returns {Stroke[]} points as indices of pixels, fractions kept
 */
export function placed(strokes, surface) {
  const drawn = strokes.filter((stroke) => stroke.length > 0);
  if (drawn.length === 0) return [];
  const box = extent(drawn);
  const scale = SPAN / Math.max(box.width, box.height, surface / 8);
  const centred = moved(drawn, scale, CENTRE - scale * box.middle[0], CENTRE - scale * box.middle[1]);
  const [x, y] = centreOfMass(inked(centred));
  return moved(centred, 1, CENTRE - x, CENTRE - y);
}

/** @param {Stroke[]} strokes @param {number} scale @param {number} dx @param {number} dy @returns {Stroke[]} */
function moved(strokes, scale, dx, dy) {
  return strokes.map((stroke) => stroke.map(([x, y]) => [scale * x + dx, scale * y + dy]));
}

/** @param {Stroke[]} strokes @returns {{width: number, height: number, middle: Point}} */
function extent(strokes) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of strokes.flat()) {
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  return { width: right - left, height: bottom - top, middle: [(left + right) / 2, (top + bottom) / 2] };
}

/**
 * Ink of placed strokes, in 0 … 1: full within the pen's width, then falling off linearly over the soft edge.
 *
 * @param {Stroke[]} strokes
 * @returns {Float64Array} [28 · 28], row by row
 */
export function inked(strokes) {
  const ink = new Float64Array(SIDE * SIDE);
  const reach = (PEN + EDGE) / 2;
  for (const stroke of strokes) {
    for (let i = 0; i < Math.max(1, stroke.length - 1); i += 1) {
      draw(ink, stroke[i], stroke[Math.min(i + 1, stroke.length - 1)], reach);
    }
  }
  return ink;
}

/** Draw a segment: each pixel near it gets the ink of its distance. */
function draw(ink, [ax, ay], [bx, by], reach) {
  const [ux, uy] = [bx - ax, by - ay];
  const length = ux * ux + uy * uy;
  const within = (value) => Math.min(SIDE - 1, Math.max(0, value));
  const [left, right] = [within(Math.ceil(Math.min(ax, bx) - reach)), within(Math.floor(Math.max(ax, bx) + reach))];
  const [top, bottom] = [within(Math.ceil(Math.min(ay, by) - reach)), within(Math.floor(Math.max(ay, by) + reach))];
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) {
      const along = length > 0 ? Math.min(1, Math.max(0, ((x - ax) * ux + (y - ay) * uy) / length)) : 0;
      const distance = Math.hypot(x - ax - along * ux, y - ay - along * uy);
      const value = Math.min(1, (reach - distance) / EDGE);
      if (value > ink[y * SIDE + x]) ink[y * SIDE + x] = value;
    }
  }
}

/** @param {Float64Array} ink @returns {Point} */
function centreOfMass(ink) {
  let [sum, x, y] = [0, 0, 0];
  ink.forEach((value, index) => {
    sum += value;
    x += value * (index % SIDE);
    y += value * Math.floor(index / SIDE);
  });
  return sum > 0 ? [x / sum, y / sum] : [CENTRE, CENTRE];
}

/**
 * The image that the network is sent.
 *
 * @param {Stroke[]} strokes placed
 * @returns {Uint8Array} [28 · 28], white on black
 */
export function image(strokes) {
  return Uint8Array.from(inked(strokes), (value) => Math.round(255 * value));
}

/**
 * The pixels that the pen passes, one after another, as `stroke-lstm` was trained on them: neighbours within a
 * stroke, a jump where the pen was lifted, none twice in a row.
 *
 * @param {Stroke[]} strokes placed
 * @returns {Point[]} whole pixels
 */
export function penPoints(strokes) {
  /** @type {Point[]} */
  const points = [];
  const add = (x, y) => {
    const last = points.at(-1);
    if (!last || last[0] !== x || last[1] !== y) points.push([x, y]);
  };
  for (const stroke of strokes) {
    const pixels = stroke.map((point) => point.map((value) => Math.min(SIDE - 1, Math.max(0, Math.round(value)))));
    pixels.forEach((pixel, i) => line(pixels[Math.max(0, i - 1)], pixel, add));
  }
  return points.slice(0, MOST_POINTS);
}

/** Each pixel from one to another, both ends with them (Bresenham). */
function line([ax, ay], [bx, by], add) {
  const steps = Math.max(Math.abs(bx - ax), Math.abs(by - ay));
  for (let i = 0; i <= steps; i += 1) {
    const part = steps > 0 ? i / steps : 0;
    add(Math.round(ax + part * (bx - ax)), Math.round(ay + part * (by - ay)));
  }
}
