/** The votes of one lane: what was asked, what has come, and which vote number fell for which class. */

import { pathOf } from "./api.js";
import { events } from "./stream.js";

/** @typedef {import("./models.js").Lane} Lane */

/** What is asked of a lane's network. @param {Lane} lane @param {object} input @param {import("./state.js").Settings} settings */
export function bodyOf(lane, input, settings) {
  const { sigma, noise, votes, reads, seed } = settings;
  const body = { inputs: [input], sigma, noise, votes, reads, seed, variant: lane.variant };
  if (settings.stop !== "fixed") body.stop = { rule: settings.stop };
  return body;
}

export class Votes {
  /** Classes of the votes; within a batch their order is not told, so numbers are found out by recomputing. */
  order = [];
  /** Votes whose class was recomputed. @type {Set<number>} */
  known = new Set();
  /** The whole answer, once it has come. @type {any} */
  answer = null;
  #batches = [];
  #histogram;
  #abort = new AbortController();

  /** @param {import("./api.js").Api} api @param {Lane} lane @param {any} body */
  constructor(api, lane, body) {
    [this.api, this.lane, this.body] = [api, lane, body];
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
    const path = pathOf(this.lane.model, this.lane.version, "predict/stream");
    for await (const { event, data } of events(this.api, path, this.body, this.#abort.signal)) {
      if (event === "error") throw Object.assign(new Error(data.error.message), data.error);
      if (event !== "votes" && event !== "answer") continue;
      const news = this.#take(data.predictions[0]?.histogram ?? this.#histogram);
      if (event === "answer") this.answer = data;
      if (news.length) onVotes(news);
    }
    if (!this.answer) throw Object.assign(new Error("the stream ended without an answer"), { status: 0 });
    return this.answer;
  }

  #take(histogram) {
    const news = spread(histogram.map((count, index) => count - this.#histogram[index]));
    this.#histogram = histogram;
    if (news.length) this.#batches.push([this.order.length, this.order.length + news.length]);
    this.order.push(...news);
    return news;
  }

  /**
   * Compute one vote again, alone.
   *
   * @param {number} vote its number @param {AbortSignal} [signal]
   * @returns {Promise<{index: number, probabilities: number[], body: object}>}
   */
  async recompute(vote, signal) {
    const { stop: _, ...kept } = this.body;
    const body = { ...kept, variant: this.answer.variant, votes: 1, first_vote: vote };
    const path = pathOf(this.lane.model, this.lane.version, "predict");
    const answer = await this.api.json(path, { body, signal });
    const [prediction] = answer.predictions;
    this.#settle(vote, prediction.index);
    return { index: prediction.index, probabilities: prediction.mean_probabilities, body };
  }

  /**
   * The number of the vote that a dot stands for. Dots of a batch fell together, so numbers of its votes are recomputed
   * until one is of the dot's class.
   *
   * @param {number} dot @param {AbortSignal} [signal]
   * @returns {Promise<{vote: number, index: number, probabilities: number[], body: object}>}
   */
  async numberOf(dot, signal) {
    const wanted = this.order[dot];
    const [start, end] = this.#batches.find(([from, to]) => dot >= from && dot < to);
    for (const vote of [dot, ...range(start, end).filter((other) => other !== dot && !this.known.has(other))]) {
      const found = await this.recompute(vote, signal);
      if (found.index === wanted) return { vote, ...found };
    }
    throw new Error("no vote of this batch is of this class"); // which the server's answer contradicts
  }

  /** Note a vote's class; a vote that was taken for it changes places with it. */
  #settle(vote, index) {
    const [start, end] = this.#batches.find(([from, to]) => vote >= from && vote < to);
    if (this.order[vote] !== index) {
      const other = range(start, end).find((each) => this.order[each] === index && !this.known.has(each));
      if (other === undefined) return;
      [this.order[vote], this.order[other]] = [this.order[other], this.order[vote]];
    }
    this.known.add(vote);
  }
}

/** Votes of counts per class, each class evenly among the others. @param {number[]} counts @returns {number[]} classes */
export function spread(counts) {
  return counts
    .flatMap((count, index) => range(0, count).map((i) => ({ index, place: (i + 0.5) / count })))
    .sort((one, other) => one.place - other.place || one.index - other.index)
    .map(({ index }) => index);
}

function range(start, end) {
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}
