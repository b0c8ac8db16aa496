/** Single keys that drive the page; they can be turned off, and rest while something is typed. */

import { byId, element } from "./dom.js";

/** @typedef {Record<string, [string, () => void]>} Actions by key: what it does in words, and the doing */

/** @param {Actions} actions */
export function listen(actions) {
  byId("shortcuts").replaceChildren(
    ...Object.entries(actions).flatMap(([key, [about]]) => [
      element("dt", {}, element("kbd", {}, key === " " ? "Space" : key)),
      element("dd", {}, about),
    ]),
  );
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing(event.target)) {
      event.preventDefault();
      actions.u[1]();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (!byId("shortcuts-on").checked || document.querySelector("dialog[open]")) return;
    if (event.key === " " && event.target.closest?.("button, a, summary")) return; // there it presses
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action[1]();
  });
}

function typing(target) {
  return (
    target instanceof HTMLSelectElement ||
    target instanceof HTMLTextAreaElement ||
    target.isContentEditable ||
    (target instanceof HTMLInputElement && !["range", "checkbox", "file"].includes(target.type))
  );
}
