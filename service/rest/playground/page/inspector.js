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
    const number = view.votes?.numbers[dot] ?? null;
    if (number !== null) await this.number(view, number);
  }

  /** A vote was asked for by its number. @param {import("./lane.js").LaneView} view @param {number} number */
  async number(view, number) {
    const { votes } = view;
    if (!votes?.answer || votes.order.length === 0) return;
    const vote = Math.min(votes.order.length - 1, Math.max(0, Math.trunc(number) || 0));
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.place.setAttribute("aria-busy", "true");
    try {
      const found = await votes.recompute(vote, signal);
      await view.dots.whenStill();
      if (signal.aborted || view.votes !== votes) return;
      if (this.#view && this.#view !== view) this.#view.dots.pick(-1);
      [this.#view, this.#vote] = [view, vote];
      view.dots.pick(votes.numbers.indexOf(vote));
      this.#show(view, vote, found);
    } catch (error) {
      if (!signal.aborted) this.place.replaceChildren(element("p", { class: "problem" }, error.message));
    } finally {
      if (!signal.aborted) this.place.setAttribute("aria-busy", "false");
    }
  }

  #show(view, vote, { index, probabilities, logits, body }) {
    const [{ classes, model }, { version, variant }] = [view.lane, view.votes.answer];
    this.place.dataset.lane = view.lane.id;
    const focused = this.place.contains(document.activeElement)
      ? document.activeElement.getAttribute("aria-label")
      : null;
    const key = element("code", {}, `"first_vote": ${vote}, "votes": 1, "seed": ${body.seed}`);
    const same = compared(view.votes.counted(vote), index, logits);
    this.place.replaceChildren(
      element(
        "p",
        { class: "row" },
        this.#step(view, vote - 1, "Vote before", "‹"),
        "Vote",
        this.#field(view, vote),
        this.#step(view, vote + 1, "Next vote", "›"),
      ),
      element(
        "p",
        {},
        `${model} ${version}, ${variant}, asked for `,
        key,
        ", says ",
        element("b", { class: "says" }, classes[index]),
        same,
      ),
      ...(probabilities ? [bars(classes, probabilities, index)] : []),
    );
    if (focused) this.place.querySelector(`[aria-label="${focused}"]`)?.focus();
  }

  #step(view, vote, name, text) {
    return element("button", { type: "button", "aria-label": name, onclick: () => this.number(view, vote) }, text);
  }

  #field(view, vote) {
    const most = view.votes.order.length - 1;
    const onchange = (event) => this.number(view, Number(event.target.value));
    return element("input", {
      type: "number",
      min: 0,
      max: most,
      value: vote,
      "aria-label": "Number of the vote",
      onchange,
    });
  }
}

/** Whether the vote alone is the vote that was counted. */
function compared(counted, index, logits) {
  if (!counted || !logits) return ".";
  const bits = counted.logits.every((value, i) => value === logits[i]);
  if (bits) return ", with the very logits that were counted, to the bit.";
  return counted.index === index ? ", as it was counted." : ", but was counted otherwise.";
}

function bars(classes, probabilities, winner) {
  const rows = probabilities.map((probability, index) => {
    const bar = element("i", { class: "bar" });
    bar.style.width = `${100 * probability}%`;
    const track = element("div", { class: "track", "aria-hidden": "true" }, bar);
    const kind = index === winner ? "winner" : null;
    return element(
      "li",
      { class: kind },
      element("span", {}, classes[index]),
      track,
      element("b", {}, percent(probability)),
    );
  });
  const long = classes.some((name) => name.length > 2) ? " long" : "";
  return element("ul", { class: `bars probabilities${long}`, "aria-label": "Probabilities of this vote" }, ...rows);
}
