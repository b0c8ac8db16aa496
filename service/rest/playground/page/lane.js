/** One network's votes as they fall: columns, the running decision, and what can be said of it. */

import { element, percent } from "./dom.js";
import { Dots } from "./dots.js";
import { decide } from "./statistics.js";

const ALPHA = 0.05;
const STOPPED = { budget: "all votes are cast", rule: "its stopping rule holds", deadline: "the deadline came first" };

export class LaneView {
  /** @type {import("./votes.js").Votes | null} */
  votes = null;
  #truth = null;
  #histogram = [];

  /** @param {(view: LaneView, dot: number) => void} onPick a dot was picked */
  constructor(onPick) {
    this.title = element("h3");
    this.subtitle = element("p", { class: "variant" });
    this.label = element("b", { class: "label" }, "–");
    this.said = element("p", { class: "said" });
    this.bound = element("p", { class: "bound" });
    this.meter = element("div", { class: "meter", "aria-hidden": "true" }, element("i"), element("u"));
    this.status = element("p", { class: "stopped" });
    this.canvas = element("canvas", { class: "dots", role: "img" });
    this.classes = element("ol", { class: "classes", "aria-hidden": "true" });
    this.root = element(
      "article",
      { class: "lane" },
      element("header", {}, this.title, this.subtitle),
      element("div", { class: "columns" }, this.canvas, this.classes),
      element("div", { class: "decision" }, this.label, element("div", {}, this.said, this.meter, this.bound)),
      this.status,
    );
    this.dots = new Dots(this.canvas, (landed) => this.#landed(landed));
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      const dot = this.dots.at(event.clientX - box.left, event.clientY - box.top);
      if (dot >= 0) onPick(this, dot);
    });
  }

  /** Say what the lane is. @param {import("./models.js").Lane} lane */
  describe(lane) {
    const same = this.lane?.model === lane.model && this.lane.version === lane.version;
    this.lane = lane;
    this.root.dataset.lane = lane.id;
    this.title.textContent = lane.title;
    if (same) return; // what else is said of it stays until it is answered
    this.subtitle.textContent = `${lane.model} ${lane.version}`;
    const long = lane.classes.some((name) => name.length > 2);
    this.classes.classList.toggle("long", long);
    this.classes.replaceChildren(...lane.classes.map((name) => element("li", {}, element("span", {}, name))));
  }

  /**
   * Empty the columns for votes to come.
   *
   * @param {import("./votes.js").Votes} votes @param {number} speed @param {number | null} truth the input's class
   */
  begin(votes, speed, truth) {
    [this.votes, this.#truth] = [votes, truth];
    this.root.classList.remove("failed", "empty");
    this.root.setAttribute("aria-busy", "true");
    this.#begin(speed);
  }

  #begin(speed) {
    this.#histogram = new Array(this.lane.classes.length).fill(0);
    this.dots.begin(this.lane.classes.length, this.votes.budget, speed);
    this.status.textContent = "";
    if (speed > 0) this.#say(null);
  }

  /** @param {number[]} classes of votes that have come */
  push(classes) {
    this.dots.push(classes);
  }

  /** @param {any} answer the whole one */
  answered(answer) {
    const [prediction] = answer.predictions;
    this.root.setAttribute("aria-busy", "false");
    this.subtitle.textContent = `${answer.model} ${answer.version} · ${answer.variant}`;
    this.canvas.setAttribute("aria-label", this.summary());
    if (prediction.histogram === undefined) this.#labelAlone(prediction);
    if (this.dots.still) this.#settle();
  }

  /** @param {string} message why there is no answer */
  failed(message) {
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.add("failed");
    this.status.textContent = message;
  }

  /** Nothing to vote on. */
  clear() {
    this.votes?.cancel();
    this.votes = null;
    this.root.classList.remove("failed");
    this.root.classList.add("empty");
    this.root.setAttribute("aria-busy", "false");
    this.dots.begin(this.lane.classes.length, 1, 0);
    this.#say(null);
    this.canvas.setAttribute("aria-label", "no votes yet");
    this.status.textContent = "";
  }

  /** @param {number} speed */
  replay(speed) {
    if (!this.votes) return;
    const order = [...this.votes.order];
    this.#begin(speed);
    this.dots.push(order);
  }

  /** In one sentence, for those who do not see the dots. */
  summary() {
    const prediction = this.votes?.answer?.predictions[0];
    if (!prediction) return "no votes yet";
    if (prediction.histogram === undefined) return `${this.lane.title}: ${prediction.label}`;
    const counts = prediction.histogram
      .map((count, index) => (count ? `${count} for ${this.lane.classes[index]}` : ""))
      .filter(Boolean);
    const says = prediction.abstain ? `abstains, with ${prediction.label} ahead` : prediction.label;
    return `${this.lane.title}: ${says}; ${counts.join(", ")}`;
  }

  /** The first so many votes have fallen; returns who leads them. */
  #landed(landed) {
    const fallen = this.#histogram.reduce((sum, count) => sum + count, 0);
    for (let i = fallen; i < landed; i += 1) this.#histogram[this.dots.order[i]] += 1;
    const favourite = this.votes?.answer?.predictions[0].index ?? null;
    const decision = decide(this.#histogram, ALPHA, favourite);
    this.#say(decision);
    if (this.votes?.answer && landed === this.dots.order.length) this.#settle();
    return decision.index;
  }

  /** @param {ReturnType<typeof decide>} decision */
  #say(decision) {
    this.root.classList.toggle("undecided", decision === null);
    const [share, bound] = decision ? [this.#histogram[decision.index] / decision.votes, decision.lowerBound] : [0, 0];
    this.label.textContent = decision ? this.lane.classes[decision.index] : "–";
    this.label.classList.toggle("name", this.label.textContent.length > 2);
    this.root.classList.toggle("abstains", Boolean(decision?.abstain));
    this.root.classList.toggle("wrong", decision !== null && this.#truth !== null && decision.index !== this.#truth);
    this.said.textContent = decision ? `${this.#histogram[decision.index]} of ${decision.votes} votes` : "";
    this.said.append(
      decision?.abstain
        ? element("em", { title: "the votes do not tell the first class from the second at level 0.05" }, "abstains")
        : "",
    );
    this.bound.textContent = decision ? `at least ${percent(bound)}, 95 % sure` : "";
    this.meter.firstChild.style.width = `${100 * share}%`;
    this.meter.lastChild.style.left = `${100 * bound}%`;
  }

  /** What the server said in the end; it is the same, and more. */
  #settle() {
    const [prediction] = this.votes.answer.predictions;
    if (prediction.histogram === undefined) return;
    const { votes_used: used, stopped_by: by } = prediction;
    const asked = this.votes.budget;
    const ended = used < asked ? `stopped after ${used} of ${asked}: ${STOPPED[by]}` : STOPPED[by];
    this.status.textContent = this.#truth === null ? ended : `${ended} · ${this.#verdict(prediction)}`;
  }

  #verdict(prediction) {
    if (prediction.index === this.#truth) return "right";
    return `wrong, it is ${this.lane.classes[this.#truth]}`;
  }

  /** Under a policy that shows labels alone there are no votes to see. */
  #labelAlone(prediction) {
    this.label.textContent = prediction.label;
    this.root.classList.remove("undecided");
    this.said.textContent = "this model’s policy shows the label alone";
    this.status.textContent = this.#truth === null ? "answered" : this.#verdict(prediction);
    this.root.classList.toggle("wrong", this.#truth !== null && prediction.index !== this.#truth);
  }
}
