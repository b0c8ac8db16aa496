/** What stands around the votes: accuracy, cost, advice, attacks, and the request as a program would send it. */

import { Attack } from "./attack.js";
import { showChart } from "./chart.js";
import { Planner, showCost } from "./cost.js";
import { byId, debounced } from "./dom.js";
import { leastNoise, policyOf, served } from "./models.js";
import { showSnippets } from "./snippets.js";

export class Panels {
  #seen = false;
  /** The model, its catalogue and the settings that were answered last. */
  #answered = null;
  #planSoon = debounced(() => this.#plan(), 200);

  /**
   * @param {import("./api.js").Api} api @param {import("./state.js").Store} store
   * @param {(bytes: Uint8Array, attack: import("./examples.js").Example) => void} onAttacked see its votes
   */
  constructor(api, store, onAttacked) {
    this.api = api;
    this.planner = new Planner(byId("plan"), api, ({ variant, votes, reads }) => store.set({ variant, votes, reads }));
    this.attack = new Attack(byId("attack"), api, onAttacked);
    // Attacked images are asked about once somebody looks at them, so that they delay nobody's votes.
    new IntersectionObserver(
      ([entry]) => {
        this.#seen = entry.isIntersecting;
        if (this.#seen) this.#attack();
      },
      { rootMargin: "200px" },
    ).observe(byId("attack-place"));
  }

  /** Requests are on their way. @param {{lane: any, body: any}[]} asked */
  asked(asked) {
    showSnippets(byId("snippets"), asked, this.api.key !== null);
  }

  /**
   * All lanes were answered.
   *
   * @param {{catalogue: any, examples: any, model: any, settings: import("./state.js").Settings}} about
   * @param {{lane: any, answer: any}[]} answered
   */
  answered(about, answered) {
    this.#answered = about;
    showCost(byId("cost"), answered);
    this.#chart(about, answered.find(({ lane }) => lane.id === "b").answer.variant);
    this.#planSoon();
    if (this.#seen) this.#attack();
    else this.attack.offer(about.catalogue, about.examples, about.model);
  }

  #chart({ model, settings }, resolved) {
    const least = leastNoise(model);
    const chosen = served(model).find((variant) => variant.name === resolved);
    const curves = [{ id: "a", name: least.name, variant: least }];
    if (chosen && chosen !== least) curves.push({ id: "b", name: chosen.name, variant: chosen });
    showChart(byId("chart"), curves, settings);
  }

  #plan() {
    const { model, settings } = this.#answered;
    const planned = policyOf(model).allows("plan");
    byId("plan-card").hidden = !planned;
    if (planned) this.planner.ask(model, model.version, settings);
  }

  #attack() {
    if (!this.#answered) return;
    const { catalogue, examples, model, settings } = this.#answered;
    this.attack.prepare(catalogue, examples, model, settings);
  }
}
