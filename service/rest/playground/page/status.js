/** What stands between the page and its votes: loading, no model, a key, a refusal, overload, a lost server. */

import { byId } from "./dom.js";

/** Seconds between two tries to reach a server that is gone or still loads. */
const PATIENCE = 2;

export class Status {
  #timer = 0;
  #banner = byId("banner");
  #dialog = byId("key-dialog");

  /** @param {(key: string) => void} onKey @param {() => void} onAgain try once more */
  constructor(onKey, onAgain) {
    this.onAgain = onAgain;
    this.#dialog.addEventListener("close", () => {
      const field = byId("key");
      const key = field.value.trim();
      field.value = "";
      if (key) onKey(key);
      else this.#say("This server answers with a key only.", "key", ["Enter a key", () => this.#dialog.showModal()]);
    });
  }

  /** All is well. */
  clear() {
    clearInterval(this.#timer);
    this.#banner.hidden = true;
    delete document.body.dataset.state;
  }

  /** @param {string} text @param {string} state @param {[string, () => void]} [action] */
  #say(text, state, action) {
    clearInterval(this.#timer);
    this.#banner.hidden = false;
    this.#banner.textContent = text;
    document.body.dataset.state = state;
    if (!action) return;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: action[0] });
    button.addEventListener("click", action[1]);
    this.#banner.append(" ", button);
  }

  /** Nothing that the page could show is served. @param {string[]} names what is */
  noModel(names) {
    const others = names.length ? ` It serves ${names.join(", ")}: ask these by the API.` : "";
    this.#say(`This server has no network of 28×28 digits or 32×32 pictures.${others}`, "no-model");
  }

  /** @param {any} error an ApiError, or what a stream ended with */
  tell(error) {
    if (error.status === 401) this.#wantKey(error.message);
    else if (error.status === 429)
      this.#later(`The server is busy: ${error.message}.`, "busy", Math.max(1, Math.ceil(error.retryAfter)));
    else if (error.status === 503) this.#later(`The server is not ready: ${error.message}.`, "loading", PATIENCE);
    else if (error.status === 0) this.#later("The server cannot be reached.", "unreachable", PATIENCE);
    else this.#say(`Refused: ${error.message}`, "refused");
  }

  #wantKey(message) {
    this.#say("This server wants a key.", "key");
    byId("key-problem").textContent = message.startsWith("this key") ? message : "";
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #later(text, state, seconds) {
    let left = seconds;
    const say = () => {
      this.#banner.firstChild.textContent = `${text} Trying again in ${left} s.`;
    };
    this.#say(text, state);
    say();
    this.#timer = setInterval(() => {
      left -= 1;
      if (left > 0) say();
      else {
        clearInterval(this.#timer);
        this.#banner.firstChild.textContent = `${text} Trying again…`;
        this.onAgain();
      }
    }, 1000);
  }
}
