/** One vote, computed again alone: its probabilities, and that it falls where it fell. */

import { element, percent } from "./dom.js";

export class Inspector {
  #abort = new AbortController();
  #view = null;
  #vote = 0;
  #visible = false;
  #pending = null;

  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    this.reset();
    new IntersectionObserver(([entry]) => {
      this.#visible = entry.isIntersecting;
      if (this.#visible) this.#catchUp();
    }).observe(place);
  }

  /** Votes are counted anew: the same number is looked up again, once somebody can see it. @param {import("./lane.js").LaneView} first */
  again(first) {
    const view = this.#view?.votes?.answer ? this.#view : first;
    this.#pending = () => this.number(view, this.#vote);
    if (this.#visible) this.#catchUp();
  }

  #catchUp() {
    const pending = this.#pending;
    this.#pending = null;
    pending?.();
  }

  reset() {
    this.#abort.abort();
    this.#pending = null;
    this.place.replaceChildren(
      element(
        "p",
        {},
        "Pick a dot: the server computes that vote again, without its companions. It has its own noise, given by seed and number, so it falls where it fell.",
      ),
    );
  }

  /** The lane whose vote is shown. @returns {import("./lane.js").LaneView | null} */
  get view() {
    return this.#view;
  }

  /** A dot was picked. @param {import("./lane.js").LaneView} view @param {number} dot */
  async pick(view, dot) {
    await this.#find(view, (signal) => view.votes.numberOf(dot, signal));
  }

  /** A vote was asked for by its number. @param {import("./lane.js").LaneView} view @param {number} vote */
  async number(view, vote) {
    const at = Math.min(view.votes.order.length - 1, Math.max(0, vote));
    await this.#find(view, async (signal) => ({ vote: at, ...(await view.votes.recompute(at, signal)) }));
  }

  async #find(view, find) {
    if (!view.votes?.answer || view.votes.order.length === 0) return;
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.place.setAttribute("aria-busy", "true");
    try {
      const found = await find(signal);
      await view.dots.whenStill();
      if (signal.aborted) return;
      if (this.#view && this.#view !== view) this.#view.dots.pick(-1);
      [this.#view, this.#vote] = [view, found.vote];
      view.dots.order = [...view.votes.order];
      view.dots.pick(found.vote);
      this.#show(view, found);
    } catch (error) {
      if (!signal.aborted) this.place.replaceChildren(element("p", { class: "problem" }, error.message));
    } finally {
      if (!signal.aborted) this.place.setAttribute("aria-busy", "false");
    }
  }

  #show(view, { vote, index, probabilities, body }) {
    const { classes } = view.lane;
    const same = view.votes.order[vote] === index;
    const input = element("input", {
      type: "number",
      min: 0,
      max: view.votes.order.length - 1,
      value: vote,
      "aria-label": "Number of the vote",
      onchange: (event) => this.number(view, Number(event.target.value)),
    });
    const step = (by, name, text) =>
      element("button", { type: "button", "aria-label": name, onclick: () => this.number(view, vote + by) }, text);
    const bars = probabilities.map((probability, each) => {
      const bar = element("i", { class: "bar" });
      bar.style.width = `${100 * probability}%`;
      return element(
        "li",
        { class: each === index ? "winner" : null },
        element("span", {}, classes[each]),
        element("div", { class: "track", "aria-hidden": "true" }, bar),
        element("b", {}, percent(probability)),
      );
    });
    this.place.dataset.lane = view.lane.id;
    this.place.replaceChildren(
      element(
        "p",
        { class: "row" },
        step(-1, "Vote before", "‹"),
        "Vote",
        input,
        step(1, "Next vote", "›"),
        ` of ${view.lane.model}, ${body.variant}`,
      ),
      element(
        "p",
        {},
        element("b", {}, `“${classes[index]}”`),
        same ? ", as it fell. Recomputed alone by " : ", which is not how it was counted. Recomputed alone by ",
        element("code", {}, `"first_vote": ${body.first_vote}, "votes": 1, "seed": ${body.seed}`),
      ),
      element("ul", { class: "bars probabilities" }, ...bars),
    );
  }
}
