/** The bundled test examples, and the strip that offers them. */

import { ApiError } from "./api.js";
import { fromBase64 } from "./codec.js";
import { element } from "./dom.js";
import { drawBytes } from "./thumbnails.js";

/**
 * @typedef {object} Example
 * @property {string} id
 * @property {number} label class that it is of
 * @property {boolean} hard
 * @property {Uint8Array} bytes
 * @property {import("./mnist.js").Point[] | null} points of its pen, where it was drawn
 * @property {string | null} of of an adversarial one: its original
 *
 * @typedef {{examples: Example[], attacks: Example[], attack: {network: string, stands: string, eps: number}}} Family
 */

export class Examples {
  /** @type {Record<"digit" | "picture", Family>} */
  families;

  /** @returns {Promise<Examples>} */
  static async load() {
    const response = await fetch(new URL("examples.json", import.meta.url)).catch(() => null);
    if (!response?.ok) throw new ApiError(0, "unreachable", "the page's examples cannot be loaded");
    const stored = await response.json();
    const made = new Examples();
    made.families = { digit: family(stored.digits), picture: family(stored.pictures) };
    return made;
  }

  /** @param {string} id @returns {Example | null} */
  find(id) {
    const all = Object.values(this.families).flatMap(({ examples, attacks }) => [...examples, ...attacks]);
    return all.find((example) => example.id === id) ?? null;
  }
}

/** @returns {Family} */
function family(stored) {
  const attacks = stored.attacks.map((attack) => ({
    ...read(attack),
    label: stored.examples.find((example) => example.id === attack.of).label,
  }));
  return { examples: stored.examples.map(read), attacks, attack: stored.attack };
}

function read({ id, label, hard = false, image, points, of = null }) {
  return { id, label, hard, of, bytes: fromBase64(image), points: points ? pairs(fromBase64(points)) : null };
}

/** @param {Uint8Array} bytes x, y, x, y, …; the last point is repeated up to the network's length, as the server does */
function pairs(bytes) {
  const points = Array.from({ length: bytes.length / 2 }, (_, i) => [bytes[2 * i], bytes[2 * i + 1]]);
  const [x, y] = points.at(-1);
  return points.slice(0, points.findLastIndex((point) => point[0] !== x || point[1] !== y) + 2);
}

/**
 * Buttons for some examples.
 *
 * @param {HTMLElement} place @param {Example[]} examples @param {string[]} classes @param {(example: Example) => void} pick
 */
export function showStrip(place, examples, classes, pick) {
  place.replaceChildren(
    ...examples.map((example) =>
      element(
        "button",
        {
          type: "button",
          "data-id": example.id,
          class: example.hard ? "hard" : null,
          onclick: () => pick(example),
          title: example.hard ? "a hard one: noisy votes on it are split or wrong" : null,
          "aria-label": `Test example: ${classes[example.label]}${example.hard ? ", a hard one" : ""}`,
        },
        drawBytes(element("canvas", { "aria-hidden": "true" }), example.bytes),
      ),
    ),
  );
}

/** @param {HTMLElement} place @param {string | null} id */
export function markChosen(place, id) {
  for (const button of place.children) button.setAttribute("aria-pressed", String(button.dataset.id === id));
}
