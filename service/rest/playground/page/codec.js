/**
 * Bytes and drawings as text that fits into an address: base64url, and strokes as differences of neighbouring points.
 *
 * A drawing's points are whole numbers in 0 … 255 from the moment they are drawn, so the text holds all of it: whoever
 * opens the address sends the very same image.
 */

/** Side of the drawing surface in points. */
export const SURFACE = 256;
/** Points of a drawing; what is drawn beyond is not taken. About 2 characters each in the address. */
export const MOST_POINTS = 1500;
/** Strokes of a drawing. */
export const MOST_STROKES = 64;

/** @param {Uint8Array} bytes @returns {string} */
export function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

/** @param {string} text plain base64 @returns {Uint8Array} */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** @param {Uint8Array} bytes @returns {string} */
export function toBase64Url(bytes) {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @param {string} text @returns {Uint8Array | null} null: it is none */
export function fromBase64Url(text) {
  if (!/^[\w-]*$/.test(text)) return null;
  try {
    return fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return null;
  }
}

/**
 * @param {import("./mnist.js").Stroke[]} strokes points in 0 … 255
 * @returns {string}
 */
export function encodeStrokes(strokes) {
  const bytes = [];
  for (const stroke of strokes) {
    pushNumber(bytes, stroke.length);
    let [x, y] = [0, 0];
    for (const [nextX, nextY] of stroke) {
      pushNumber(bytes, zigzag(nextX - x));
      pushNumber(bytes, zigzag(nextY - y));
      [x, y] = [nextX, nextY];
    }
  }
  return toBase64Url(Uint8Array.from(bytes));
}

/**
 * @param {string} text
 * @returns {import("./mnist.js").Stroke[] | null} null: it is no drawing, or a longer one than can be drawn
 */
export function decodeStrokes(text) {
  const bytes = text.length > 8 * MOST_POINTS ? null : fromBase64Url(text);
  if (!bytes) return null;
  const numbers = readNumbers(bytes);
  if (!numbers) return null;
  const strokes = [];
  let [at, points] = [0, 0];
  while (at < numbers.length) {
    const count = numbers[at];
    points += count;
    if (count === 0 || points > MOST_POINTS || at + 2 * count >= numbers.length) return null;
    const stroke = strokeFrom(numbers, at + 1, count);
    if (!stroke || strokes.length === MOST_STROKES) return null;
    strokes.push(stroke);
    at += 1 + 2 * count;
  }
  return strokes;
}

function strokeFrom(numbers, at, count) {
  const stroke = [];
  let [x, y] = [0, 0];
  for (let i = at; i < at + 2 * count; i += 2) {
    x += unzigzag(numbers[i]);
    y += unzigzag(numbers[i + 1]);
    if (!(x >= 0 && x < SURFACE && y >= 0 && y < SURFACE)) return null;
    stroke.push([x, y]);
  }
  return stroke;
}

/** Seven bits a byte, the lowest first; the eighth bit says that more follow. */
function pushNumber(bytes, number) {
  for (let rest = number; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) {
      bytes.push(rest);
      return;
    }
    bytes.push((rest % 128) + 128);
  }
}

function readNumbers(bytes) {
  const numbers = [];
  let [number, place] = [0, 1];
  for (const byte of bytes) {
    number += (byte % 128) * place;
    if (byte < 128) {
      numbers.push(number);
      [number, place] = [0, 1];
    } else {
      place *= 128;
      if (place > 128 ** 3) return null;
    }
  }
  return place === 1 ? numbers : null;
}

const zigzag = (value) => (value < 0 ? -2 * value - 1 : 2 * value);
const unzigzag = (value) => (value % 2 ? -(value + 1) / 2 : value / 2);
