/**
 * What the page shows, and its form in the address: whoever opens the address sees the same votes.
 */

import { decodeStrokes, encodeStrokes, fromBase64Url, toBase64Url } from "./codec.js";

/**
 * @typedef {{kind: "none"} | {kind: "strokes", strokes: import("./mnist.js").Stroke[]}
 *   | {kind: "example", id: string} | {kind: "picture", bytes: Uint8Array}} Input
 *
 * @typedef {object} Settings
 * @property {string | null} model its name; null: the first one that fits
 * @property {string} variant a name, or `auto`
 * @property {string[]} resolved `version:variant` that answered, lane by lane; empty once anything is changed
 * @property {number} sigma
 * @property {"multiplicative" | "additive"} noise
 * @property {number} votes
 * @property {number} reads
 * @property {number} seed
 * @property {"fixed" | "exact" | "confidence"} stop
 * @property {Input} input
 */

/** Bytes of a picture: 28 × 28 in gray, or 32 × 32 in three colours. */
const PICTURE_BYTES = [28 * 28, 3 * 32 * 32];
/** What a change of these leaves of an answer: nothing. */
const ASKED = ["model", "variant", "sigma", "noise", "votes", "reads"];
export const MOST_VOTES = 1000;
export const MOST_READS = 16;
const STOPS = ["fixed", "exact", "confidence"];
const KINDS = ["multiplicative", "additive"];
const NAME = /^[\w.+-]{1,64}$/;
const RESOLVED = /^[\w.+-]{1,32}:[\w.+-]{1,64}$/;

/** @type {Settings} */
export const DEFAULTS = Object.freeze({
  model: null,
  variant: "auto",
  resolved: [],
  sigma: 0.9,
  noise: "multiplicative",
  votes: 20,
  reads: 1,
  seed: 7,
  stop: "fixed",
  input: { kind: "example", id: "mnist-38" },
});

/** Settings that tell of each change; what sets them names the keys that it changes. */
export class Store extends EventTarget {
  /** @param {Settings} settings */
  constructor(settings) {
    super();
    this.settings = settings;
  }

  /** @param {Partial<Settings>} changes @param {{dragging?: boolean}} [how] */
  set(changes, how = {}) {
    const changed = Object.keys(changes).filter((key) => this.settings[key] !== changes[key]);
    if (changed.length === 0) return;
    const resolved = changed.some((key) => ASKED.includes(key)) ? [] : this.settings.resolved;
    this.settings = { ...this.settings, resolved, ...changes };
    this.dispatchEvent(new CustomEvent("change", { detail: { changed, ...how } }));
  }
}

/** @param {Settings} settings @returns {string} without the # */
export function toFragment(settings) {
  const { input } = settings;
  const parts = new URLSearchParams();
  if (settings.model) parts.set("m", settings.model);
  parts.set("v", settings.variant);
  if (settings.resolved.length) parts.set("w", settings.resolved.join("~"));
  parts.set("s", String(settings.sigma));
  parts.set("k", settings.noise[0]);
  parts.set("n", String(settings.votes));
  parts.set("r", String(settings.reads));
  parts.set("e", String(settings.seed));
  parts.set("q", settings.stop);
  if (input.kind === "strokes") parts.set("d", encodeStrokes(input.strokes));
  if (input.kind === "example") parts.set("x", input.id);
  if (input.kind === "picture") parts.set("p", toBase64Url(input.bytes));
  return parts.toString();
}

/**
 * What an address says, with defaults for what it does not say or what cannot be used.
 *
 * @param {string} fragment with or without the #
 * @returns {Settings}
 */
export function fromFragment(fragment) {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const model = parts.get("m") ?? "";
  const resolved = (parts.get("w") ?? "").split("~");
  return {
    model: NAME.test(model) ? model : DEFAULTS.model,
    variant: NAME.test(parts.get("v") ?? "") ? parts.get("v") : DEFAULTS.variant,
    resolved: resolved.length <= 3 && resolved.every((name) => RESOLVED.test(name)) ? resolved : [],
    sigma: number(parts.get("s"), 0, 10, DEFAULTS.sigma),
    noise: KINDS.find((kind) => kind[0] === parts.get("k")) ?? DEFAULTS.noise,
    votes: whole(parts.get("n"), 1, MOST_VOTES, DEFAULTS.votes),
    reads: whole(parts.get("r"), 1, MOST_READS, DEFAULTS.reads),
    seed: whole(parts.get("e"), 0, Number.MAX_SAFE_INTEGER, DEFAULTS.seed),
    stop: STOPS.includes(parts.get("q")) ? parts.get("q") : DEFAULTS.stop,
    input: inputOf(parts),
  };
}

/** @param {URLSearchParams} parts @returns {Input} */
function inputOf(parts) {
  const strokes = parts.has("d") ? decodeStrokes(parts.get("d")) : null;
  if (strokes?.length) return { kind: "strokes", strokes };
  const picture = parts.get("p") ?? "";
  const bytes = picture.length <= 4096 ? fromBase64Url(picture) : null;
  if (bytes && PICTURE_BYTES.includes(bytes.length)) return { kind: "picture", bytes };
  if (NAME.test(parts.get("x") ?? "")) return { kind: "example", id: parts.get("x") };
  return parts.has("s") ? { kind: "none" } : DEFAULTS.input;
}

function number(text, least, most, otherwise) {
  const value = text === null || text.trim() === "" ? NaN : Number(text);
  return value >= least && value <= most ? value : otherwise;
}

function whole(text, least, most, otherwise) {
  const value = number(text, least, most, NaN);
  return Number.isInteger(value) ? value : otherwise;
}
