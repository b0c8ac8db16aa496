/** The page: settings change, networks are asked, votes fall. */

import { Api } from "./api.js";
import { Ballot } from "./ballot.js";
import { Controls } from "./controls.js";
import { byId, debounced, paced } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Examples } from "./examples.js";
import { kindOf, payloadOf } from "./input.js";
import { Inspector } from "./inspector.js";
import { Catalogue, policyOf, takes } from "./models.js";
import { Panels } from "./panels.js";
import { listen } from "./shortcuts.js";
import { copy } from "./snippets.js";
import { fromFragment, Store, toFragment } from "./state.js";
import { Status } from "./status.js";

/** Milliseconds without a change until networks are asked again, and while changes go on: time for an answer to show. */
const PAUSE = 30;
const MOST = 150;

class Playground {
  api = new Api();
  store = new Store(fromFragment(location.hash));
  controls = new Controls(this.store);
  status = new Status(
    (key) => this.#useKey(key),
    () => this.#again(),
  );
  drawing = new Drawing(this.store, (message) => this.status.tell({ status: 422, message }));
  inspector = new Inspector(byId("inspector").querySelector(".body"));
  ballot = new Ballot(this.api, {
    pick: (view, dot) => this.inspector.pick(view, dot),
    answered: (asked) => this.#answered(asked),
    failed: (error) => {
      this.status.tell(error);
      this.#busy(false);
    },
  });
  panels = new Panels(this.api, this.store, (bytes, attack) => this.#showAttacked(bytes, attack));
  /** @type {Catalogue | null} */
  catalogue = null;
  /** @type {any} */
  model = null;
  /** @type {Examples | null} */
  examples = null;
  #dragging = false;
  #askSoon = paced(() => this.ask(), PAUSE, MOST);
  #keepSoon = debounced(() => this.#keep(), 150);

  async start() {
    document.body.classList.toggle("embed", new URLSearchParams(location.search).has("embed"));
    this.store.addEventListener("change", (event) => this.#changed(event.detail));
    this.store.addEventListener("released", () => this.#released());
    addEventListener("hashchange", () => this.#open(fromFragment(location.hash)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.ballot.resize());
    addEventListener(
      "resize",
      debounced(() => this.ballot.resize(), 100),
    );
    this.#listenToButtons();
    await this.load();
  }

  /** Ask what is served, then for votes. */
  async load() {
    try {
      this.examples ??= await Examples.load();
      const { models } = await this.api.json("v1/models");
      this.catalogue = new Catalogue(models);
    } catch (error) {
      this.status.tell(error);
      return;
    }
    this.status.clear();
    if (this.catalogue.shown.length === 0) this.status.noModel(this.catalogue.models.map((model) => model.name));
    else this.#open(this.store.settings);
  }

  get #ready() {
    return Boolean(this.catalogue?.shown.length);
  }

  /** Take over settings as an address has them. @param {import("./state.js").Settings} settings */
  #open(settings) {
    this.store.settings = settings;
    this.ballot.changedAt = performance.now();
    if (!this.#ready) return;
    this.#choose();
    this.ask();
  }

  /** Settle on a model that is served and on an input that it takes. */
  #choose() {
    const { settings } = this.store;
    const found = this.catalogue.find(settings.model);
    this.model = found && this.catalogue.shown.includes(found) ? found : this.catalogue.shown[0];
    const payload = payloadOf(settings.input, this.examples);
    const fits = settings.input.kind === "none" || (payload !== null && kindOf(payload) === takes(this.model));
    const first = () => ({ kind: "example", id: this.examples.families[takes(this.model)].examples[2].id });
    const chosen = { ...settings, model: this.model.name, input: fits ? settings.input : first() };
    this.store.settings = policyOf(this.model).settled(chosen);
    this.controls.allow(policyOf(this.model));
    this.controls.list(this.catalogue.shown, this.model);
    this.controls.show();
    this.drawing.offer(this.catalogue, this.model, this.examples);
    this.drawing.show();
  }

  #changed({ changed, dragging = false }) {
    this.ballot.changedAt = performance.now();
    this.#dragging = dragging;
    if (this.#ready) this.store.settings = policyOf(this.model).settled(this.store.settings);
    this.controls.show();
    if (!this.#ready) return;
    if (changed.includes("model")) {
      this.store.settings = { ...this.store.settings, variant: "auto" };
      this.#choose();
    } else if (changed.includes("input") && !dragging) this.drawing.show();
    if (changed.includes("variant")) this.controls.list(this.catalogue.shown, this.model);
    this.#busy(true);
    this.#askSoon();
  }

  /** Whether what is shown is not yet what is set. @param {boolean} busy */
  #busy(busy) {
    byId("stage").setAttribute("aria-busy", String(busy));
  }

  /** A slider was let go: what it set while it moved is shown once more, vote by vote. */
  #released() {
    this.#dragging = false;
    if (this.ballot.asked.every(({ votes }) => votes.answer)) this.ballot.replay();
  }

  /** Ask the networks about the present settings. */
  ask() {
    const { settings } = this.store;
    const payload = payloadOf(settings.input, this.examples);
    const lanes = this.catalogue.lanes(this.model, settings, payload === null || payload.points !== null);
    this.drawing.mark(payload);
    this.#busy(payload !== null);
    if (payload === null) this.inspector.reset();
    this.ballot.ask(lanes, payload, settings, this.#dragging);
    this.panels.asked(this.ballot.asked);
    this.#keepSoon();
  }

  #answered(asked) {
    this.status.clear();
    const answered = asked.map(({ lane, votes }) => ({ lane, answer: votes.answer }));
    const resolved = answered.map(({ answer }) => `${answer.version}:${answer.variant}`);
    this.store.settings = { ...this.store.settings, resolved };
    const { catalogue, examples, model } = this;
    this.panels.answered({ catalogue, examples, model, settings: this.store.settings }, answered);
    this.inspector.again(this.ballot.views.b);
    byId("live").textContent = this.ballot.summary();
    this.#busy(false);
    this.#keepSoon();
  }

  /** Write the settings into the address. */
  #keep() {
    history.replaceState(null, "", `#${toFragment(this.store.settings)}`);
  }

  #useKey(key) {
    this.api.key = key;
    this.#again();
  }

  #again() {
    if (this.#ready) this.ask();
    else this.load();
  }

  #showAttacked(bytes, attack) {
    const whole = bytes.every((value, i) => value === attack.bytes[i]);
    this.store.set({ input: whole ? { kind: "example", id: attack.id } : { kind: "picture", bytes } });
    byId("stage").scrollIntoView({ block: "start" });
    byId("stage").focus({ preventScroll: true });
  }

  #listenToButtons() {
    const { controls, drawing, ballot } = this;
    const help = () => byId("help-dialog").showModal();
    byId("replay").addEventListener("click", () => ballot.replay());
    byId("help").addEventListener("click", help);
    byId("theme").addEventListener("click", () => this.#turnTheme());
    byId("share").addEventListener("click", (event) => {
      this.#keep();
      copy(event.currentTarget, location.href);
    });
    listen({
      ",": ["less noise", () => controls.shift(-0.05)],
      ".": ["more noise", () => controls.shift(0.05)],
      "-": ["fewer votes", () => controls.shiftVotes(-1)],
      "+": ["more votes", () => controls.shiftVotes(1)],
      " ": ["replay the votes", () => ballot.replay()],
      r: ["roll another seed", () => controls.roll()],
      n: ["next example", () => drawing.next()],
      v: ["look at one vote", () => this.#lookAtOne()],
      u: ["undo a stroke", () => drawing.undo()],
      c: ["clear", () => drawing.clear()],
      "?": ["this list", help],
    });
  }

  #lookAtOne() {
    this.inspector.number(this.ballot.views.b, 0);
    byId("inspector").scrollIntoView({ block: "nearest" });
  }

  #turnTheme() {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    this.ballot.resize();
  }
}

new Playground().start();
