/** The votes of one lane: what was asked, what has come, and each vote's number, class and logits. */

import { pathOf } from "./api.js";
import { events } from "./stream.js";

/** @typedef {import("./models.js").Lane} Lane */
/** @typedef {{vote: number, label: string, index: number, logits: number[]}} CastVote */

/**
 * What is asked of a lane's network, with the keys that its policy leaves to requests.
 *
 * @param {Lane} lane @param {object} input @param {import("./state.js").Settings} settings
 */
export function bodyOf(lane, input, settings) {
  const { sigma, noise, votes, reads, seed, stop } = lane.policy.settled(settings);
  const body = { inputs: [input], sigma, noise, votes, reads, seed, stop: { rule: stop }, variant: lane.variant };
  const { shown } = lane.policy;
  return lane.policy.kept(shown === null ? body : { ...body, return: shown });
}

/** Where a lane's network is asked. @param {Lane} lane @param {string} what */
export function askedAt({ model, version, policy }, what) {
  return pathOf(model, policy.chooses("version") ? version : null, what);
}

export class Votes {
  /** Classes of the votes, in the order in which they came. @type {number[]} */
  order = [];
  /** Their numbers; null where a policy shows no single votes. @type {(number | null)[]} */
  numbers = [];
  /** The whole answer, once it has come. @type {any} */
  answer = null;
  #histogram;
  #abort = new AbortController();

  /** @param {import("./api.js").Api} api @param {Lane} lane @param {any} body @param {number} budget of votes */
  constructor(api, lane, body, budget) {
    [this.api, this.lane, this.body, this.budget] = [api, lane, body, budget];
    this.#histogram = new Array(lane.classes.length).fill(0);
  }

  /** Give up what is still being voted on. */
  cancel() {
    this.#abort.abort();
  }

  get cancelled() {
    return this.#abort.signal.aborted;
  }

  /**
   * Ask, and tell of new votes until the answer has come.
   *
   * @param {(classes: number[]) => void} onVotes
   * @returns {Promise<any>} the answer, as `…/predict` gives it
   * @throws {import("./api.js").ApiError}
   */
  async cast(onVotes) {
    for await (const { event, data } of this.#events()) {
      if (event === "error") throw Object.assign(new Error(data.error.message), data.error);
      if (event !== "votes" && event !== "answer") continue;
      const news = this.#take(data.predictions[0]);
      if (event === "answer") this.answer = data;
      if (news.length) onVotes(news);
    }
    if (!this.answer) throw Object.assign(new Error("the stream ended without an answer"), { status: 0 });
    return this.answer;
  }

  /** A stream's events, or the answer as one where the policy has no streams. */
  async *#events() {
    const [{ api, body }, { signal }] = [this, this.#abort];
    if (this.lane.policy.takes("stream", true)) yield* events(api, askedAt(this.lane, "predict/stream"), body, signal);
    else yield { event: "answer", data: await api.json(askedAt(this.lane, "predict"), { body, signal }) };
  }

  /** The classes of votes that are new. @param {any} prediction */
  #take(prediction) {
    if (!prediction?.histogram) return [];
    const { histogram, votes } = prediction;
    const known = new Set(this.numbers);
    const news = votes
      ? votes.filter(({ vote }) => !known.has(vote)).map(({ vote, index }) => [index, vote])
      : spread(histogram.map((count, index) => count - this.#histogram[index])).map((index) => [index, null]);
    this.#histogram = histogram;
    this.order.push(...news.map(([index]) => index));
    this.numbers.push(...news.map(([, vote]) => vote));
    return news.map(([index]) => index);
  }

  /** A vote as it was counted; null where single votes are not shown. @param {number} vote @returns {CastVote | null} */
  counted(vote) {
    return this.answer?.predictions[0].votes?.find((each) => each.vote === vote) ?? null;
  }

  /**
   * Compute one vote again, alone.
   *
   * @param {number} vote its number @param {AbortSignal} [signal]
   * @returns {Promise<{index: number, probabilities: number[], logits: number[] | null, body: object}>}
   */
  async recompute(vote, signal) {
    const { policy } = this.lane;
    if (!policy.takes("votes", 1) || !["first_vote", "seed"].every((key) => policy.chooses(key)))
      throw new Error("This model’s policy lets no vote be asked for alone.");
    const { stop: _, ...kept } = this.body;
    const body = policy.kept({ ...kept, variant: this.answer.variant, votes: 1, first_vote: vote });
    const path = askedAt({ ...this.lane, version: this.answer.version }, "predict");
    const answer = await this.api.json(path, { body, signal });
    const [prediction] = answer.predictions;
    const logits = prediction.votes?.[0].logits ?? null;
    return { index: prediction.index, probabilities: prediction.mean_probabilities, logits, body };
  }
}

/** Votes of counts per class, each class evenly among the others. @param {number[]} counts @returns {number[]} classes */
export function spread(counts) {
  return counts
    .flatMap((count, index) => Array.from({ length: count }, (_, i) => ({ index, place: (i + 0.5) / count })))
    .sort((one, other) => one.place - other.place || one.index - other.index)
    .map(({ index }) => index);
}
