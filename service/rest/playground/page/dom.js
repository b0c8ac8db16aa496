/** The page's elements: found by id, and made. */

/**
 * @param {string} id
 * @returns {any} the element; every id that scripts ask for is in index.html
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/**
 * Make an element.
 *
 * @param {string} tag a name of HTML
 * @param {Record<string, any>} [attributes] `on…` are listeners; false and null are left out
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} children */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** A share as people read it. @param {number} share @param {number} digits */
export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** Call once calls have paused for some time. @param {() => void} action @param {number} milliseconds */
export function debounced(action, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

/**
 * Call at once after a rest; while calls go on, once they pause, but not later than some time after the call before.
 *
 * @param {() => void} action @param {number} pause @param {number} most milliseconds
 */
export function paced(action, pause, most) {
  let [timer, last] = [0, -Infinity];
  const act = () => {
    last = performance.now();
    action();
  };
  return () => {
    clearTimeout(timer);
    const since = performance.now() - last;
    if (since > most) act();
    else timer = setTimeout(act, Math.max(0, Math.min(pause, most - since)));
  };
}
