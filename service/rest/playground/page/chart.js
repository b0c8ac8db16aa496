/** Accuracy over sigma, as the manifest has it, of two variants at 1, 5 and 20 votes; the present setting is marked. */

import { element, percent, svg } from "./dom.js";
import { between, measured } from "./models.js";

const BOX = { width: 460, height: 300, left: 40, right: 12, top: 12, bottom: 34 };
const VOTES = [1, 5, 20];

/** @typedef {{id: string, name: string, variant: any}} Curve id is the lane's */

/**
 * @param {HTMLElement} place
 * @param {Curve[]} curves
 * @param {{sigma: number, noise: string, reads: number}} setting
 */
export function showChart(place, curves, setting) {
  const sigma = setting.sigma / Math.sqrt(setting.reads);
  const lines = curves
    .flatMap((curve) =>
      VOTES.map((votes) => ({ ...curve, votes, points: measured(curve.variant, setting.noise, votes) })),
    )
    .filter(({ points }) => points.length > 1);
  if (lines.length === 0) {
    place.replaceChildren(
      element("p", {}, `No accuracy under ${setting.noise} noise was measured for these variants.`),
    );
    return;
  }
  const most = Math.max(...lines.flatMap(({ points }) => points.map((point) => point.sigma)));
  place.replaceChildren(
    drawing(lines, { sigma, most }),
    table(curves, lines, sigma),
    element("p", { class: "note" }, note(setting, sigma, most)),
  );
}

function drawing(lines, { sigma, most }) {
  const x = (value) => BOX.left + (value / most) * (BOX.width - BOX.left - BOX.right);
  const y = (share) => BOX.height - BOX.bottom - share * (BOX.height - BOX.top - BOX.bottom);
  const path = (points) =>
    points.map((point, i) => `${i ? "L" : "M"}${x(point.sigma).toFixed(1)} ${y(point.accuracy).toFixed(1)}`).join("");
  const marked =
    sigma <= most
      ? [
          svg("line", { class: "now", x1: x(sigma), x2: x(sigma), y1: y(1) - 4, y2: y(0) }),
          ...lines
            .map(({ id, points }) => ({ id, share: between(points, sigma) }))
            .filter(({ share }) => share !== null)
            .map(({ id, share }) => svg("circle", { class: `mark ${id}`, cx: x(sigma), cy: y(share), r: 4 })),
        ]
      : [];
  return svg(
    "svg",
    {
      viewBox: `0 0 ${BOX.width} ${BOX.height}`,
      class: "chart",
      role: "img",
      "aria-label": "Accuracy over sigma; the table below has the numbers at the present setting",
    },
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
      svg("line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(share), y2: y(share) }),
      svg("text", { x: BOX.left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}%`),
    ]),
    ...[0, 0.2, 0.4, 0.6, 0.8, 1]
      .map((part) => part * most)
      .map((value) => svg("text", { x: x(value), y: BOX.height - 16, "text-anchor": "middle" }, value.toFixed(1))),
    svg(
      "text",
      { x: (BOX.left + BOX.width - BOX.right) / 2, y: BOX.height - 2, "text-anchor": "middle" },
      "σ of each averaged product",
    ),
    ...lines.map(({ id, votes, points }) => svg("path", { class: `curve ${id} votes-${votes}`, d: path(points) })),
    ...marked,
  );
}

function table(curves, lines, sigma) {
  const cell = (id, votes) => {
    const line = lines.find((each) => each.id === id && each.votes === votes);
    const share = line ? between(line.points, sigma) : null;
    return element("td", {}, share === null ? "–" : percent(share));
  };
  return element(
    "table",
    { class: "numbers" },
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("th", { scope: "col" }, `at σ ${sigma.toFixed(2)}`),
        ...VOTES.map((votes) =>
          element(
            "th",
            { scope: "col" },
            element("i", { class: `key votes-${votes}`, "aria-hidden": "true" }),
            ` ${votes} ${votes > 1 ? "votes" : "vote"}`,
          ),
        ),
      ),
    ),
    element(
      "tbody",
      {},
      ...curves.map(({ id, name }) =>
        element("tr", { class: id }, element("th", { scope: "row" }, name), ...VOTES.map((votes) => cell(id, votes))),
      ),
    ),
  );
}

function note(setting, sigma, most) {
  const reads =
    setting.reads > 1 ? ` ${setting.reads} reads of σ ${setting.sigma.toFixed(2)} are σ ${sigma.toFixed(2)}.` : "";
  const beyond = sigma > most ? " Nothing was measured at so much noise." : "";
  return `Measured on test images, ${setting.noise} noise; straight lines between points.${reads}${beyond}`;
}
