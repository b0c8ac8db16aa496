/** Adversarial examples beside their originals: what an undefended, a robust and a noisy network make of them. */

import { pathOf } from "./api.js";
import { element } from "./dom.js";
import { drawBytes, difference } from "./thumbnails.js";
import { leastNoise, policyOf, served, takes } from "./models.js";
import { toBase64 } from "./codec.js";

/** Votes of a certificate on the page: it takes about a second, and bounds what a radius can be. */
const CERTIFY = { n0: 100, n: 2000, alpha: 0.001 };

export class Attack {
  #abort = new AbortController();
  #chosen = null;
  #strength = 1;
  #settings = null;

  /**
   * @param {HTMLElement} section hidden while there is nothing to attack
   * @param {import("./api.js").Api} api
   * @param {(bytes: Uint8Array, attack: import("./examples.js").Example) => void} onShow to see its votes above
   */
  constructor(section, api, onShow) {
    [this.section, this.api, this.onShow] = [section, api, onShow];
    this.place = section.querySelector(".body");
  }

  /**
   * Show the section where both networks are served to anybody: under a policy one may not ask for what it compares. @returns {boolean} whether they are
   *
   * @param {import("./models.js").Catalogue} catalogue @param {import("./examples.js").Examples} examples @param {any} model
   */
  offer(catalogue, examples, model) {
    const family = examples.families[takes(model)];
    const [undefended, robust] = [family.attack.network, family.attack.stands].map((path) =>
      catalogue.find(path.split("/")[0]),
    );
    const free = [undefended, robust].every((each) => each && policyOf(each).routes === null);
    this.section.hidden = !free || family.attacks.length === 0;
    this.networks = { undefended, robust };
    return !this.section.hidden;
  }

  /** Ask about the chosen example under these settings. See `offer` for the others. */
  prepare(catalogue, examples, model, settings) {
    if (!this.offer(catalogue, examples, model)) return;
    const kind = takes(model);
    const same = this.kind === kind && this.#settings;
    const certifiers = kind === "digit" ? catalogue.certifying : [];
    Object.assign(this, { kind, family: examples.families[kind], examples, certifiers, ...this.networks });
    this.#settings = settings;
    if (same) this.#askSoon();
    else this.#build();
  }

  #build() {
    const { family } = this;
    const eps = kindOfEps(this.kind, family.attack.eps);
    this.strip = element(
      "div",
      { class: "examples", role: "group", "aria-label": "Adversarial examples" },
      ...family.attacks.map((attack) =>
        element(
          "button",
          {
            type: "button",
            "data-id": attack.id,
            onclick: () => this.#choose(attack),
            "aria-label": `Attacked ${this.undefended.manifest.classes[attack.label]}`,
          },
          drawBytes(element("canvas", { "aria-hidden": "true" }), attack.bytes),
        ),
      ),
    );
    this.slider = element("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value: 1,
      "aria-label": "Strength of the attack",
      oninput: (event) => this.#strengthen(Number(event.target.value)),
    });
    this.figures = element("div", { class: "figures" });
    this.answers = element("div", { role: "status" });
    this.certificate = element("p", { class: "certificate", role: "status" });
    const buttons = element(
      "p",
      { class: "row" },
      element(
        "button",
        { type: "button", onclick: () => this.onShow(this.#bytes(), this.#chosen) },
        "See its votes above",
      ),
    );
    if (this.certifiers.length) buttons.append(this.#certifyTools());
    this.place.replaceChildren(
      element(
        "p",
        {},
        `These images were changed by at most ${eps} per pixel so that the undefended network (${family.attack.network}) reads them wrong: PGD with full access to its weights. They are shown because ${family.attack.stands} withstands them; what the noisy network makes of them is for you to see.`,
      ),
      element(
        "div",
        { class: "attack-grid" },
        element(
          "div",
          {},
          this.strip,
          this.figures,
          element("label", { class: "strength" }, "Strength of the attack", this.slider),
        ),
        element("div", {}, this.answers, buttons, this.certificate),
      ),
    );
    this.#choose(family.attacks[0]);
  }

  #certifyTools() {
    const options = this.certifiers.map(({ model, variant }, i) =>
      element("option", { value: i, selected: variant.certifies === 0.5 }, `${model.name} ${variant.name}`),
    );
    const pick = element("select", { "aria-label": "Network that certifies" }, ...options);
    return element(
      "span",
      { class: "row" },
      element(
        "button",
        { type: "button", onclick: () => this.#certify(this.certifiers[Number(pick.value)]) },
        "Certify a radius",
      ),
      " by ",
      pick,
    );
  }

  #choose(attack) {
    this.#chosen = attack;
    for (const button of this.strip.children)
      button.setAttribute("aria-pressed", String(button.dataset.id === attack.id));
    this.#strengthen(this.#strength);
  }

  #strengthen(strength) {
    this.#strength = strength;
    this.certificate.replaceChildren();
    const original = this.examples.find(this.#chosen.of).bytes;
    const figure = (bytes, text) =>
      element(
        "figure",
        {},
        drawBytes(element("canvas", { role: "img", "aria-label": text }), bytes),
        element("figcaption", {}, text),
      );
    this.figures.replaceChildren(
      figure(original, "original"),
      element("span", { "aria-hidden": "true" }, "+"),
      figure(difference(original, this.#bytes()), "what is added"),
      element("span", { "aria-hidden": "true" }, "="),
      figure(this.#bytes(), `attacked, ${Math.round(100 * strength)} %`),
    );
    this.#askSoon();
  }

  #bytes() {
    const original = this.examples.find(this.#chosen.of).bytes;
    return original.map((value, i) => Math.round(value + this.#strength * (this.#chosen.bytes[i] - value)));
  }

  #timer = 0;

  #askSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), 120);
  }

  /** Ask all networks about the original and the attacked image, as one request each. */
  async #ask() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const { sigma, votes, seed } = this.#settings;
    const inputs = [this.examples.find(this.#chosen.of).bytes, this.#bytes()].map((bytes) => ({
      b64: toBase64(bytes),
      dtype: "uint8",
    }));
    const of = (model, variant, noise) => ({ model, body: { inputs, variant, seed, ...noise } });
    const noisy = { sigma, votes: Math.min(votes, 100) };
    const exact = { sigma: 0, votes: 1 };
    const asked = [
      ["undefended", of(this.undefended, leastNoise(this.undefended).name, exact)],
      [`the same, trained with noise, σ ${sigma.toFixed(2)}, ${noisy.votes} votes`, of(this.undefended, "auto", noisy)],
      ["adversarially trained", of(this.robust, served(this.robust)[0].name, exact)],
    ];
    try {
      const answers = await Promise.all(
        asked.map(([, { model, body }]) =>
          this.api.json(pathOf(model.name, model.version, "predict"), { body, signal }),
        ),
      );
      this.#show(asked.map(([name], i) => [name, answers[i]]));
    } catch (error) {
      if (!signal.aborted) this.answers.replaceChildren(element("p", { class: "problem" }, error.message));
    }
  }

  #show(rows) {
    const truth = this.#chosen.label;
    const cell = (prediction) => {
      const right = prediction.index === truth;
      const share =
        prediction.votes_used > 1 ? ` (${prediction.histogram[prediction.index]} of ${prediction.votes_used})` : "";
      return element("td", { class: right ? "right" : "wrong" }, `${right ? "✓" : "✗"} ${prediction.label}${share}`);
    };
    this.answers.replaceChildren(
      element(
        "table",
        { class: "numbers" },
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...["network", "original", "attacked"].map((name) => element("th", { scope: "col" }, name)),
          ),
        ),
        element(
          "tbody",
          {},
          ...rows.map(([name, answer]) =>
            element(
              "tr",
              {},
              element("th", { scope: "row" }, name, element("small", {}, `${answer.model} · ${answer.variant}`)),
              ...answer.predictions.map(cell),
            ),
          ),
        ),
      ),
    );
  }

  async #certify({ model, variant }) {
    const bytes = this.#bytes();
    this.certificate.textContent = "voting…";
    const body = { inputs: [{ b64: toBase64(bytes), dtype: "uint8" }], variant: variant.name, ...CERTIFY };
    try {
      const answer = await this.api.json(pathOf(model.name, model.version, "certify"), { body });
      const [found] = answer.certificates;
      const length = Math.sqrt(
        bytes.reduce((sum, value, i) => sum + ((value - this.examples.find(this.#chosen.of).bytes[i]) / 255) ** 2, 0),
      );
      const claim = found.abstain
        ? `No radius is certified: only ${found.count} of ${found.votes_used} votes were for one class.`
        : `“${found.label}” for every image within an L2 distance of ${found.radius.toFixed(2)} of this one, at 99.9 % confidence: ${found.count} of ${found.votes_used} votes under noise that the server drew.`;
      this.certificate.replaceChildren(
        element("b", {}, claim),
        ` What the attack adds has length ${length.toFixed(2)}.`,
      );
    } catch (error) {
      this.certificate.textContent = error.message;
    }
  }
}

function kindOfEps(kind, eps) {
  return kind === "digit" ? eps.toFixed(2) : `${Math.round(255 * eps)}/255`;
}
