/** The request as curl and as Python, ready to copy. A key is never in it. */

import { element } from "./dom.js";
import { askedAt } from "./votes.js";

/**
 * @param {import("./models.js").Lane} lane @param {object} body @param {string} base the page's address @param {boolean} keyed
 */
export function curl(lane, body, base, keyed) {
  const url = new URL(askedAt(lane, "predict"), base);
  const key = keyed ? ' -H "authorization: Bearer $NOISEVOTE_KEY"' : "";
  return `curl -s '${url}' -H 'content-type: application/json'${key} \\\n  -d '${JSON.stringify(body)}'`;
}

/** The same in Python, with nothing but its standard library. */
export function python(lane, body, base, keyed) {
  const url = new URL(askedAt(lane, "predict"), base);
  const key = keyed ? ', "authorization": "Bearer " + os.environ["NOISEVOTE_KEY"]' : "";
  const counted = ["votes", "probabilities", "histogram"].includes(lane.policy.shown);
  return [
    `import json${keyed ? ", os" : ""}, urllib.request`,
    "",
    `body = ${JSON.stringify(body)}`,
    `headers = {"content-type": "application/json"${key}}`,
    `request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)`,
    "with urllib.request.urlopen(request) as answer:",
    `    print(json.load(answer)["predictions"][0]${counted ? '["histogram"]' : ""})`,
  ].join("\n");
}

/** @param {HTMLElement} place @param {{lane: any, body: any}[]} asked @param {boolean} keyed */
export function showSnippets(place, asked, keyed) {
  const shown = asked.find(({ lane }) => lane.id === "b") ?? asked[0];
  if (!shown) return;
  // The settings first, since the input is long; and no single votes, which a terminal would drown in.
  const { inputs, return: _, ...rest } = shown.body;
  const body = { ...rest, inputs };
  const block = (name, text) =>
    element(
      "div",
      { class: "snippet" },
      element(
        "h3",
        {},
        name,
        copyButton(() => text, `Copy the request as ${name}`),
      ),
      element("pre", { tabindex: 0, role: "region", "aria-label": `The request as ${name}` }, text),
    );
  place.replaceChildren(
    block("curl", curl(shown.lane, body, document.baseURI, keyed)),
    block("Python", python(shown.lane, body, document.baseURI, keyed)),
  );
}

/** A button that copies, and says so. @param {() => string} text @param {string} name */
export function copyButton(text, name) {
  return element(
    "button",
    { type: "button", "aria-label": name, onclick: (event) => copy(event.currentTarget, text()) },
    "Copy",
  );
}

/** @param {HTMLButtonElement} button @param {string} text */
export async function copy(button, text) {
  const before = button.dataset.says ?? button.textContent;
  button.dataset.says = before;
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyPlainly(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => {
    button.textContent = before;
  }, 1500);
}

/** Copy where the server is reached without TLS, and browsers have no clipboard for pages. @param {string} text */
function copyPlainly(text) {
  const focused = document.activeElement;
  const field = element("textarea", { class: "sr", "aria-hidden": "true" }, text);
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  if (!done) throw new Error("copying is not allowed");
}
