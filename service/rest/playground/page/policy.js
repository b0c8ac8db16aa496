/** What a model's policy lets requests choose, as `docs/policy.md` has it, and with them this page. */

/** What a key is that a policy does not list: the API's default. */
const DEFAULTS = { reads: 1, stop: "fixed", variant: "auto" };
/** How much of the votes can be shown, the most first. */
const SHOWN = ["votes", "probabilities", "histogram", "label"];

/** @typedef {"free" | {fixed: any} | {least?: number, most?: number, one_of?: any[], default?: any}} Rule */

export class Policy {
  /** @param {{predict?: Record<string, Rule>, plan?: object} | null} routes null: requests are free */
  constructor(routes) {
    this.routes = routes;
  }

  /** @param {string} key @returns {Rule | null} null: requests must not have it */
  rule(key) {
    if (this.routes === null) return "free";
    return this.routes.predict?.[key] ?? null;
  }

  /** Whether requests may choose a key among several values. @param {string} key */
  chooses(key) {
    const rule = this.rule(key);
    return rule === "free" || (rule !== null && rule.fixed === undefined);
  }

  /** @param {"predict" | "plan"} route */
  allows(route) {
    return this.routes === null || Boolean(this.routes[route]);
  }

  /** Whether a request may have this value. @param {string} key @param {any} value */
  takes(key, value) {
    const rule = this.rule(key);
    return rule !== null && within(rule, value) === value;
  }

  /** The nearest settings that requests may have. @param {import("./state.js").Settings} settings */
  settled(settings) {
    if (this.routes === null) return settings;
    const settled = { ...settings };
    for (const key of ["noise", "votes", "reads", "stop", "variant"]) {
      const rule = this.rule(key);
      settled[key] = rule === null ? DEFAULTS[key] : within(rule, settings[key]);
    }
    // Rules of sigma are about what reads leave of it.
    const reads = Math.sqrt(settled.reads);
    settled.sigma = reads * within(this.rule("sigma") ?? "free", settings.sigma / reads);
    return settled;
  }

  /** A request's body without what its policy fixes or forbids. @param {Record<string, any>} body */
  kept(body) {
    return Object.fromEntries(Object.entries(body).filter(([key]) => key === "inputs" || this.chooses(key)));
  }

  /** How much of the votes may be shown. @returns {string | null} null: it is not the request's choice */
  get shown() {
    return this.chooses("return") ? (SHOWN.find((each) => this.takes("return", each)) ?? null) : null;
  }
}

/** The nearest value that a rule allows. @param {Rule} rule @param {any} value */
function within(rule, value) {
  if (rule === "free") return value;
  if (rule.fixed !== undefined) return rule.fixed;
  if (rule.one_of) return rule.one_of.includes(value) ? value : (rule.default ?? rule.one_of[0]);
  return Math.min(rule.most ?? Infinity, Math.max(rule.least ?? -Infinity, value));
}
