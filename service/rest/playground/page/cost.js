/** What an answer would cost on analog hardware, and what it cost here; and what the planner would do. */

import { pathOf } from "./api.js";
import { element, percent } from "./dom.js";

const WAYS = {
  latency_sequential: ["sequential", "one product after another"],
  latency_pipelined: ["pipelined", "an array for each layer, runs follow one another"],
  latency_parallel: ["parallel", "arrays of its own for each run"],
};
const GOALS = [0.9, 0.95, 0.98, 0.99, 0.995];

/**
 * @param {HTMLElement} place @param {{lane: import("./models.js").Lane, answer: any}[]} answered
 */
export function showCost(place, answered) {
  const last = answered.find(({ lane }) => lane.id === "b");
  if (!last) return;
  const cost = last.answer.analog_cost;
  const most = Math.max(...Object.keys(WAYS).map((key) => cost[key]));
  const bars = Object.entries(WAYS).map(([key, [name, about]]) => {
    const bar = element("i", { class: "bar" });
    bar.style.width = `${(100 * cost[key]) / most}%`;
    return element(
      "li",
      { title: about },
      element("span", {}, name),
      element("div", { class: "track", "aria-hidden": "true" }, bar),
      element("b", {}, String(cost[key])),
    );
  });
  const times = answered.map(({ lane, answer }) =>
    element(
      "li",
      { class: lane.id },
      element("span", {}, `${answer.model} · ${answer.variant}`),
      element("b", {}, answer.timing_ms ? `${answer.timing_ms.total.toFixed(1)} ms` : "not told"),
    ),
  );
  place.replaceChildren(
    element("p", {}, `${cost.products} matrix-vector products for this decision. In layer times, if they run`),
    element("ul", { class: "bars" }, ...bars),
    element("p", {}, "This server, in digital arithmetic, took"),
    element("ul", { class: "times" }, ...times),
  );
}

export class Planner {
  #goal = 0.99;
  #abort = new AbortController();

  /**
   * @param {HTMLElement} place @param {import("./api.js").Api} api
   * @param {(plan: {variant: string, votes: number, reads: number}) => void} onUse
   */
  constructor(place, api, onUse) {
    [this.api, this.onUse] = [api, onUse];
    this.said = element("div", { class: "advice", role: "status" });
    const pick = element(
      "select",
      { onchange: (event) => this.#changed(event) },
      ...GOALS.map((goal) => element("option", { value: goal, selected: goal === this.#goal }, percent(goal))),
    );
    place.replaceChildren(element("label", {}, "To be right on ", pick, " of inputs at this noise:"), this.said);
  }

  #changed(event) {
    this.#goal = Number(event.target.value);
    if (this.asked) this.ask(...this.asked);
  }

  /** @param {any} model @param {string} version @param {import("./state.js").Settings} settings */
  async ask(model, version, settings) {
    this.asked = [model, version, settings];
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const body = { sigma: settings.sigma, noise: settings.noise, accuracy: this.#goal };
    try {
      const answer = await this.api.json(pathOf(model.name, version, "plan"), { body, signal });
      this.#show(answer);
    } catch (error) {
      if (!signal.aborted) this.said.replaceChildren(element("p", {}, error.message));
    }
  }

  #show(answer) {
    const shown = [];
    if (answer.plan) shown.push(...this.#told("The cheapest known way", answer.plan));
    else {
      shown.push(element("p", {}, answer.reason ?? "No known way."));
      if (answer.nearest) shown.push(...this.#told("The most accurate known way", answer.nearest));
    }
    this.said.replaceChildren(...shown);
  }

  #told(name, plan) {
    const many = (count, word) => `${count} ${word}${count > 1 ? "s" : ""}`;
    return [
      element(
        "p",
        {},
        `${name}: `,
        element("b", {}, `${plan.variant}, ${many(plan.votes, "vote")} × ${many(plan.reads, "read")}`),
        `: ${plan.analog_cost.products} products, ${percent(plan.accuracy, 2)} ± ${percent(plan.standard_error, 2)} right (${plan.known}).`,
      ),
      element("button", { type: "button", onclick: () => this.onUse(plan) }, "Use it"),
    ];
  }
}
