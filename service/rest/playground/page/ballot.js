/** The right of the page: networks are asked, and their votes fall lane by lane. */

import { byId } from "./dom.js";
import { asInput, showSent } from "./input.js";
import { LaneView } from "./lane.js";
import { bodyOf, Votes } from "./votes.js";

/** @typedef {{lane: import("./models.js").Lane, body: any, votes: Votes}} Asked */

export class Ballot {
  /** What was asked last, lane by lane. @type {Asked[]} */
  asked = [];
  /** When the change was made that was asked about last, by the performance clock. */
  changedAt = 0;

  /**
   * @param {import("./api.js").Api} api
   * @param {{pick: (view: LaneView, dot: number) => void, answered: (asked: Asked[]) => void, failed: (error: any) => void}} on
   */
  constructor(api, on) {
    [this.api, this.on] = [api, on];
    /** @type {Record<string, LaneView>} */
    this.views = Object.fromEntries(["a", "b", "c"].map((id) => [id, new LaneView(on.pick)]));
  }

  /**
   * Ask all lanes' networks; what was asked before is given up.
   *
   * @param {import("./models.js").Lane[]} lanes @param {import("./input.js").Payload | null} payload null: nothing to ask
   * @param {import("./state.js").Settings} settings @param {boolean} dragging show votes at once, more are to come
   */
  ask(lanes, payload, settings, dragging) {
    for (const { votes } of this.asked) votes.cancel();
    showSent(payload, lanes);
    this.#place(lanes);
    this.asked = payload === null ? [] : lanes.map((lane) => this.#asked(lane, payload, settings));
    if (payload === null) for (const lane of lanes) this.views[lane.id].clear();
    else this.#cast(payload.truth, dragging ? 0 : this.speed);
  }

  #asked(lane, payload, settings) {
    const body = bodyOf(lane, asInput(payload, lane.pen), settings);
    return { lane, body, votes: new Votes(this.api, lane, body, lane.policy.settled(settings).votes) };
  }

  async #cast(truth, speed) {
    const { asked } = this;
    const [start, measured] = [this.changedAt, { done: false }];
    const seen = () => {
      if (!measured.done) measure(start);
      measured.done = true;
    };
    await Promise.all(asked.map((each) => this.#castLane(each, truth, speed, seen)));
    if (asked === this.asked && asked.every(({ votes }) => votes.answer)) this.on.answered(asked);
  }

  async #castLane({ lane, votes }, truth, speed, seen) {
    const view = this.views[lane.id];
    const begin = () => {
      if (view.votes !== votes) view.begin(votes, speed, truth);
    };
    try {
      const answer = await votes.cast((classes) => {
        begin(); // not before: what is shown stays until there is something new
        view.push(classes);
        seen();
      });
      begin();
      view.answered(answer);
    } catch (error) {
      if (votes.cancelled) return;
      view.failed(error.message);
      this.on.failed(error);
    }
  }

  /** Show the lanes' views, in their order. @param {import("./models.js").Lane[]} lanes */
  #place(lanes) {
    const place = byId("lanes");
    const wanted = lanes.map((lane) => this.views[lane.id].root);
    if (wanted.length !== place.children.length || wanted.some((root, i) => place.children[i] !== root)) {
      place.replaceChildren(...wanted);
      place.dataset.count = String(lanes.length);
    }
    for (const lane of lanes) this.views[lane.id].describe(lane);
  }

  /** 0: votes are shown at once, without a fall. */
  get speed() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : Number(byId("speed").value);
  }

  replay() {
    for (const { lane } of this.asked) this.views[lane.id].replay(this.speed);
  }

  resize() {
    for (const { lane } of this.asked) this.views[lane.id].dots.resize();
  }

  /** All lanes in words. */
  summary() {
    return this.asked.map(({ lane }) => this.views[lane.id].summary()).join(". ");
  }
}

/** Milliseconds from a change to the frame that shows its first votes, for people and for `performance`. */
function measure(start) {
  requestAnimationFrame(() => {
    const { duration } = performance.measure("change to votes", { start, end: performance.now() });
    byId("latency").textContent = `First votes ${Math.round(duration)} ms after the change.`;
  });
}
