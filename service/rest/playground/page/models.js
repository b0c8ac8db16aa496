/** What the server serves, and which of it the page can show: networks of digits, of pen strokes, of small pictures. */

/**
 * @typedef {object} Lane a network whose votes are shown
 * @property {"a" | "b" | "c"} id
 * @property {string} model
 * @property {string} version
 * @property {string} variant a name, or `auto`
 * @property {string} title
 * @property {boolean} pen it takes pen points instead of pixels
 * @property {string[]} classes
 * @property {Policy} policy what requests may choose
 */

import { Policy } from "./policy.js";

/** What the page can draw for. @typedef {"digit" | "picture" | "pen"} Takes */
const SHAPES = { "1,28,28": "digit", "3,32,32": "picture" };

export class Catalogue {
  /** @param {any[]} models as `GET /v1/models` has them */
  constructor(models) {
    this.models = models;
  }

  /** Those that the page can show, the plainest first. */
  get shown() {
    const order = ["mnist-cnn", "cifar10-cnn"];
    const rank = (model) => (order.indexOf(model.name) + order.length + 1) % (order.length + 1);
    return this.models
      .filter((model) => ["digit", "picture"].includes(takes(model)) && policyOf(model).allows("predict"))
      .sort((a, b) => rank(a) - rank(b));
  }

  /** @param {string | null} name @returns {any | null} */
  find(name) {
    return this.models.find((model) => model.name === name) ?? null;
  }

  /** The first one that takes something. @param {Takes} what */
  firstThatTakes(what) {
    return this.models.find((model) => takes(model) === what) ?? null;
  }

  /** Variants whose votes certify a radius. @returns {{model: any, variant: any}[]} */
  get certifying() {
    return this.models.flatMap((model) =>
      served(model)
        .filter((variant) => variant.certifies && policyOf(model).routes === null)
        .map((variant) => ({ model, variant })),
    );
  }

  /**
   * The networks that vote on a setting: the one least trained for noise, the chosen one, and one that reads the pen.
   *
   * @param {any} model @param {import("./state.js").Settings} settings @param {boolean} drawn there are pen points
   * @returns {Lane[]}
   */
  lanes(model, settings, drawn) {
    const lane = (of, id, variant, title) => ({
      id,
      model: of.name,
      version: of.version,
      variant,
      title,
      pen: takes(of) === "pen",
      classes: of.manifest.classes,
      policy: policyOf(of),
    });
    const [least, policy] = [leastNoise(model), policyOf(model)];
    const [several, compared] = [served(model).length > 1, policy.takes("variant", least.name)];
    const lanes = [];
    if (several && compared) lanes.push(lane(model, "a", least.name, trainedFor(least)));
    lanes.push(lane(model, "b", settings.variant, several ? "trained with noise" : trainedFor(least)));
    const pen = takes(model) === "digit" && drawn && this.firstThatTakes("pen");
    if (pen && policyOf(pen).allows("predict")) lanes.push(lane(pen, "c", "auto", "reads the pen, trained with noise"));
    return settings.resolved.length === lanes.length
      ? lanes.map((each, i) => answeredBy(each, settings.resolved[i]))
      : lanes;
  }
}

/** The lane with what answered it when its address was made. @param {Lane} lane @param {string} resolved */
function answeredBy(lane, resolved) {
  const [version, variant] = resolved.split(":");
  return { ...lane, version, variant };
}

/** @param {any} model @returns {Takes | null} */
export function takes(model) {
  const { shape, padding } = model.manifest.input;
  if (shape.length === 2 && shape[1] === 2 && padding === "repeat_last") return "pen";
  return SHAPES[shape.join(",")] ?? null;
}

/** @param {any} model */
export function policyOf(model) {
  return new Policy(model.policy);
}

/** Variants of a model that are served. @param {any} model */
export function served(model) {
  return model.manifest.variants.filter((variant) => model.variants.includes(variant.name));
}

/** @param {any} model */
export function leastNoise(model) {
  return served(model).reduce((least, variant) => (variant.sigma_train < least.sigma_train ? variant : least));
}

/** @param {any} variant */
function trainedFor(variant) {
  return variant.sigma_train > 0 ? `trained with little noise (σ ${variant.sigma_train})` : "trained without noise";
}

/** Accuracy over sigma at some votes, as it was measured. @returns {{sigma: number, accuracy: number}[]} */
export function measured(variant, noise, votes) {
  return variant.accuracy
    .filter((point) => point.votes === votes && point.reads === 1 && (point.noise === noise || point.sigma === 0))
    .map(({ sigma, accuracy }) => ({ sigma, accuracy }))
    .sort((one, other) => one.sigma - other.sigma);
}

/** On the straight lines between points; null outside of them. */
export function between(points, sigma) {
  const after = points.findIndex((point) => point.sigma >= sigma);
  if (after < 0) return null;
  if (points[after].sigma === sigma) return points[after].accuracy;
  if (after === 0) return null;
  const [low, high] = [points[after - 1], points[after]];
  const part = (sigma - low.sigma) / (high.sigma - low.sigma);
  return low.accuracy + part * (high.accuracy - low.accuracy);
}
