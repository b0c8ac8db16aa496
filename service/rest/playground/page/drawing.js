/** The left of the page: what is drawn, picked or dropped. */

import { byId } from "./dom.js";
import { markChosen, showStrip } from "./examples.js";
import { payloadOf, showOn } from "./input.js";
import { takes } from "./models.js";
import { readPicture } from "./picture.js";
import { Surface } from "./surface.js";

export class Drawing {
  surface = new Surface(byId("surface"));
  /** @type {import("./models.js").Catalogue | null} */
  #catalogue = null;
  #model = null;
  #family = null;
  #examples = null;

  /** @param {import("./state.js").Store} store @param {(message: string) => void} onRefused a file is no picture */
  constructor(store, onRefused) {
    [this.store, this.onRefused] = [store, onRefused];
    this.surface.addEventListener("begin", () => {
      if (store.settings.input.kind !== "strokes") this.surface.show([]);
    });
    this.surface.addEventListener("drawn", () => this.#drawn(true));
    this.surface.addEventListener("lifted", () => this.#drawn(false));
    byId("undo").addEventListener("click", () => this.undo());
    byId("clear").addEventListener("click", () => this.clear());
    this.#listenForPictures();
  }

  /** @param {boolean} dragging the pen still moves */
  #drawn(dragging) {
    const { strokes } = this.surface;
    this.store.set({ input: strokes.length ? { kind: "strokes", strokes } : { kind: "none" } }, { dragging });
  }

  /** Offer what a model takes. */
  offer(catalogue, model, examples) {
    [this.#catalogue, this.#model, this.#examples] = [catalogue, model, examples];
    this.#family = examples.families[takes(model)];
    const digits = takes(model) === "digit";
    byId("headline").textContent = digits ? "Draw a digit." : "Pick a picture.";
    byId("draw-title").textContent = digits ? "Draw" : "Drop a picture";
    byId("surface-hint").textContent = digits ? "draw your own" : "drop, paste or pick a picture";
    byId("picture-label").hidden = digits;
    byId("undo").hidden = !digits;
    this.surface.enabled = digits;
    showStrip(byId("examples"), this.#family.examples, model.manifest.classes, ({ id }) => this.#pick(id));
  }

  /** Show the present input. */
  show() {
    const { input } = this.store.settings;
    const payload = payloadOf(input, this.#examples);
    if (input.kind === "strokes") this.surface.show(input.strokes);
    else showOn(this.surface, payload);
    this.mark(payload);
  }

  /** Say what is known of it. @param {import("./input.js").Payload | null} payload */
  mark(payload) {
    const { input } = this.store.settings;
    document.body.dataset.input = input.kind;
    markChosen(byId("examples"), input.id ?? null);
    const known = payload !== null && payload.truth !== null;
    byId("truth").textContent = known ? `its label: ${this.#model.manifest.classes[payload.truth]}` : "";
  }

  undo() {
    if (this.store.settings.input.kind === "strokes") this.surface.undo();
  }

  clear() {
    this.surface.show([]);
    this.store.set({ input: { kind: "none" } });
  }

  /** Go on to the next example. */
  next() {
    const { examples } = this.#family;
    const at = examples.findIndex(({ id }) => id === this.store.settings.input.id);
    this.#pick(examples[(at + 1) % examples.length].id);
  }

  #pick(id) {
    this.store.set({ input: { kind: "example", id } });
  }

  #listenForPictures() {
    const take = (files) => {
      const file = [...(files ?? [])][0];
      if (file) this.#takePicture(file);
    };
    byId("picture").addEventListener("change", (event) => {
      take(event.target.files);
      event.target.value = "";
    });
    addEventListener("paste", (event) => take(event.clipboardData?.files));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer?.files);
    });
  }

  async #takePicture(file) {
    const model = takes(this.#model) === "picture" ? this.#model : this.#catalogue.firstThatTakes("picture");
    try {
      if (!model) throw new Error("this server has no network that takes pictures");
      this.store.set({ model: model.name, input: { kind: "picture", bytes: await readPicture(file) } });
    } catch (error) {
      this.onRefused(error.message);
    }
  }
}
