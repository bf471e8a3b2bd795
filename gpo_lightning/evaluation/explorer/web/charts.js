// Small drawings, each with its meaning in words for those who do not see it.

import { h, hidden, s } from "./dom.js";
import { direction, percent } from "./words.js";

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// The value curve of a row of the list; `v` in percent.
export function sparkline(row, sure) {
  const [width, height, margin] = [88, 26, 3];
  const at = (value, t) => [margin + ((width - 2 * margin) * t) / Math.max(1, row.v.length - 1), margin + (height - 2 * margin) * (1 - value / 100)];
  const points = row.v.map(at);
  const marked = row.q >= sure;
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    s("line", { class: "base", x1: margin, x2: width - margin, y1: height - margin, y2: height - margin }),
    s("path", { class: "curve", d: path(points) }),
    marked && s("path", { class: `turn ${direction(row.d)}`, d: path(points.slice(row.t, row.t + 2)) }),
    marked && s("circle", { class: direction(row.d), cx: points[row.t + 1][0], cy: points[row.t + 1][1], r: 2.6 }),
  );
}

// The value curve beside the text: down the page goes time, across goes success. `edges` are the heights of the
// places between steps.
export function curve(trajectory, edges, width, sure) {
  const { values, low, high, turn, other } = trajectory;
  const margin = 14;
  const height = edges.at(-1) + 16;
  const x = (value) => margin + (width - 2 * margin) * value;
  const points = values.map((value, t) => [x(value), edges[t]]);
  const band = [...low.map((value, t) => [x(value), edges[t]]), ...high.map((value, t) => [x(value), edges[t]]).reverse()];
  const turns = [turn, other].filter((its) => its && its.probability >= sure);
  return s("svg", { class: "values", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    [0, 0.5, 1].map((value) => s("line", { class: "grid", x1: x(value), x2: x(value), y1: edges[0] - 6, y2: edges.at(-1) + 4 })),
    s("path", { class: "band", d: `${path(band)}Z` }),
    s("path", { class: "curve", d: path(points) }),
    turns.map((its) => s("path", { class: `turn ${direction(its.after - its.before)}`, d: path(points.slice(its.step, its.step + 2)) })),
    points.map(([cx, cy], t) => {
      const its = turns.find(({ step }) => t === step || t === step + 1);
      return s("circle", { class: its ? `end ${direction(its.after - its.before)}` : "", cx, cy, r: its ? 4.5 : 2.8 });
    }),
    turns.flatMap((its) => [label(points[its.step], its.before, width, -1), label(points[its.step + 1], its.after, width, 1)]),
  );
}

function label([x, y], value, width, side) {
  const left = x > width / 2;
  return s("text", { class: "value", x: x + (left ? -9 : 9), y: y + (side < 0 ? -5 : 14), "text-anchor": left ? "end" : "start" }, percent(value));
}

// Bars of gains above a line and falls below it, over the position in the solution; a bar filters the list.
export function histogram(bins, chosen, choose) {
  const [up, down] = [Math.max(...bins.map(({ gain }) => gain)), Math.max(...bins.map(({ fall }) => fall))];
  const most = Math.max(1, up, down);
  return h("div", { class: "histogram", "--up": Math.max(up / most, 0.15), "--down": Math.max(down / most, 0.15), role: "group", "aria-label": "Turns by position in the solution" },
    bins.map(({ gain, fall }, i) => {
      const [from, to] = [Math.round((100 * i) / bins.length), Math.round((100 * (i + 1)) / bins.length)];
      const said = `${from} to ${to} % of the way: ${gain} gains, ${fall} falls`;
      return h("button", { type: "button", class: "bin", title: said, "aria-pressed": String(chosen === i), onclick: (event) => choose(i, event.currentTarget.getAttribute("aria-pressed") === "true") },
        hidden(said),
        h("span", { class: "up", "aria-hidden": "true" }, h("i", { class: "gain", "--share": gain / Math.max(1, up) }, gain ? h("small", null, gain) : null)),
        h("span", { class: "down", "aria-hidden": "true" }, h("i", { class: "fall", "--share": fall / Math.max(1, down) }, fall ? h("small", null, fall) : null)),
      );
    }),
  );
}

// How many of the drawn continuations were right, a dot each.
export function dots(rewards) {
  const shown = rewards.slice(0, 40);
  return h("span", { class: "dots", "aria-hidden": "true" }, shown.map((reward) => h("i", { class: reward === null ? "none" : reward > 0.5 ? "right" : "wrong" })), rewards.length > shown.length ? "…" : null);
}
