/** What is drawn, picked or dropped, as the networks are sent it. */

import { SURFACE, toBase64 } from "./codec.js";
import { byId, element } from "./dom.js";
import { image, penPoints, placed } from "./mnist.js";
import { drawBytes, drawPoints } from "./thumbnails.js";

/**
 * @typedef {object} Payload
 * @property {Uint8Array} bytes pixels
 * @property {import("./mnist.js").Point[] | null} points of the pen
 * @property {number | null} truth class that it is of, where that is known
 */

/**
 * @param {import("./state.js").Input} input @param {import("./examples.js").Examples} examples
 * @returns {Payload | null} null: there is nothing to send
 */
export function payloadOf(input, examples) {
  if (input.kind === "strokes" && input.strokes.length) {
    const strokes = placed(input.strokes, SURFACE);
    return { bytes: image(strokes), points: penPoints(strokes), truth: null };
  }
  if (input.kind === "picture") return { bytes: input.bytes, points: null, truth: null };
  const example = input.kind === "example" ? examples.find(input.id) : null;
  return example && { bytes: example.bytes, points: example.points, truth: example.label };
}

/** What it is, by its size: a digit in gray, a picture in colours. @param {Payload} payload */
export function kindOf(payload) {
  return payload.bytes.length === 28 * 28 ? "digit" : "picture";
}

/** The payload as one input of a request. @param {Payload} payload @param {boolean} pen */
export function asInput(payload, pen) {
  return pen ? payload.points : { b64: toBase64(payload.bytes), dtype: "uint8" };
}

/** Show what is sent. @param {Payload | null} payload @param {import("./models.js").Lane[]} lanes */
export function showSent(payload, lanes) {
  const pen = lanes.find((lane) => lane.pen);
  byId("seen-pen").hidden = !pen;
  drawBytes(byId("seen-image"), payload?.bytes ?? new Uint8Array(28 * 28));
  drawPoints(byId("seen-points"), payload?.points ?? []);
  const side = payload && kindOf(payload) === "picture" ? 32 : 28;
  byId("seen-image-text").textContent =
    `${side}×${side} pixels, as sent to ${lanes.find((lane) => !lane.pen)?.model ?? "the network"}`;
  byId("seen-points-text").textContent = pen
    ? `${payload?.points?.length ?? 0} pen points, as sent to ${pen.model}`
    : "";
}

/** Show an example or picture on the surface. @param {import("./surface.js").Surface} surface @param {Payload | null} payload */
export function showOn(surface, payload) {
  surface.showPicture(payload && drawBytes(element("canvas"), payload.bytes));
}
