/** Sliders and lists that set what is asked. */

import { byId, element } from "./dom.js";
import { served } from "./models.js";
import { snrDb } from "./statistics.js";

/** Votes that the slider offers: fine where few, coarse where many. */
export const OFFERED = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 700, 1000,
];

/** The offered number nearest to one. @param {number} votes */
function nearest(votes) {
  return OFFERED.reduce(
    (best, offered, i) => (Math.abs(Math.log(offered / votes)) < Math.abs(Math.log(OFFERED[best] / votes)) ? i : best),
    0,
  );
}

export class Controls {
  /** @param {import("./state.js").Store} store */
  constructor(store) {
    this.store = store;
    byId("votes").max = OFFERED.length - 1;
    this.#slide("sigma", (value) => ({ sigma: value }));
    this.#slide("votes", (value) => ({ votes: OFFERED[value] }));
    this.#slide("reads", (value) => ({ reads: value }));
    for (const id of ["noise", "variant", "stop", "model"]) {
      byId(id).addEventListener("change", (event) => store.set({ [id]: event.target.value }));
    }
    byId("seed").addEventListener("change", (event) => this.#seed(event.target));
    byId("roll").addEventListener("click", () => this.roll());
    this.show();
  }

  #slide(id, changes) {
    const slider = byId(id);
    slider.addEventListener("input", () => this.store.set(changes(Number(slider.value)), { dragging: true }));
    slider.addEventListener("change", () => this.store.dispatchEvent(new Event("released")));
  }

  #seed(field) {
    const seed = Math.trunc(Number(field.value));
    if (field.value !== "" && seed >= 0 && seed <= Number.MAX_SAFE_INTEGER) this.store.set({ seed });
    else field.value = this.store.settings.seed;
  }

  /** Draw another seed, short enough to be read out. */
  roll() {
    const die = byId("roll");
    die.textContent = "⚀⚁⚂⚃⚄⚅"[Math.floor(6 * Math.random())];
    this.store.set({ seed: crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000 });
  }

  /** Move sigma by a step. @param {number} by */
  shift(by) {
    const most = Number(byId("sigma").max);
    this.store.set({ sigma: Math.round(100 * Math.min(most, Math.max(0, this.store.settings.sigma + by))) / 100 });
  }

  /** Offer more or fewer votes. @param {number} by */
  shiftVotes(by) {
    const at = Math.min(OFFERED.length - 1, Math.max(0, nearest(this.store.settings.votes) + by));
    this.store.set({ votes: OFFERED[at] });
  }

  /** Show the settings. */
  show() {
    const { sigma, votes, reads, seed, noise, stop } = this.store.settings;
    const snr = snrDb(sigma);
    byId("sigma").max = Math.max(1, sigma);
    byId("sigma").value = sigma;
    byId("sigma-value").textContent = sigma.toFixed(2);
    byId("snr").textContent = Number.isFinite(snr) ? `${(snr + 0).toFixed(1).replace("-0.0", "0.0")} dB` : "∞ dB";
    byId("sigma").setAttribute("aria-valuetext", `sigma ${sigma.toFixed(2)}, ${byId("snr").textContent}`);
    byId("votes").value = nearest(votes);
    byId("votes-value").textContent = votes;
    byId("votes").setAttribute("aria-valuetext", `${votes} votes`);
    byId("reads").value = reads;
    byId("reads-value").textContent = reads;
    byId("seed").value = seed;
    byId("noise").value = noise;
    byId("stop").value = stop;
  }

  /** Let only what requests may choose be set. @param {import("./policy.js").Policy} policy */
  allow(policy) {
    for (const id of ["sigma", "votes", "reads", "seed", "roll", "noise", "variant", "stop"]) {
      byId(id).disabled = !policy.chooses(id === "roll" ? "seed" : id);
    }
    byId("fixed").hidden = policy.routes === null;
  }

  /** List what is served. @param {any[]} models @param {any} model the chosen one */
  list(models, model) {
    const { variant } = this.store.settings;
    const select = byId("model");
    select.disabled = false;
    select.replaceChildren(
      ...models.map((each) => element("option", { value: each.name, selected: each === model }, each.name)),
    );
    const named = served(model).map((each) => [each.name, `${each.name}`]);
    if (variant !== "auto" && !named.some(([name]) => name === variant))
      named.push([variant, `${variant} (not served)`]);
    byId("variant").replaceChildren(
      ...[["auto", "auto: best measured"], ...named].map(([value, text]) =>
        element("option", { value, selected: value === variant }, text),
      ),
    );
  }
}
