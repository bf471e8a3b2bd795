// What all trajectories have in common: how many, how good, where they turn, how sure that is.

import { h, put } from "./dom.js";
import { histogram } from "./charts.js";
import { bin, BINS } from "./filters.js";
import { percent, plural } from "./words.js";

export class Overview extends HTMLElement {
  show({ index, state, choose }) {
    if (this.childNodes.length) return this.press(state.where);
    const valued = index.rows.filter((row) => row.t !== undefined);
    const sure = valued.filter((row) => row.q >= index.sure);
    const graded = index.rows.filter((row) => row.r !== null);
    const right = graded.filter((row) => row.r > 0.5).length;
    put(this,
      h("h1", { class: "hidden" }, index.title),
      h("section", { class: "numbers", "aria-label": "In numbers" },
        figure(new Set(index.problems.map(({ id }) => id)).size, "problems"),
        figure(index.rows.length, "trajectories"),
        figure(graded.length ? percent(right / graded.length) : "–", "of them right"),
        figure(valued.length, "valued step by step"),
        figure(sure.length, "with a clear turn", "accent"),
      ),
      valued.length
        ? h("div", { class: "charts" }, this.where(index, sure, state, choose), this.sureness(index, valued, choose))
        : h("section", { class: "card" }, h("p", null, "No trajectory in these rollouts was valued step by step. ",
            "Exploration is drawn for a share of the problems (data.plan.reset_probability), and only where a group has both right and wrong answers.")),
      this.tasks(index, choose),
      this.training(index),
      guide(index),
    );
  }

  press(where) {
    this.querySelectorAll(".bin").forEach((bar, i) => bar.setAttribute("aria-pressed", String(where === String(i))));
  }

  where(index, sure, state, choose) {
    const bins = Array.from({ length: BINS }, () => ({ gain: 0, fall: 0 }));
    for (const row of sure) bins[bin(row, BINS)][row.d < 0 ? "fall" : "gain"]++;
    const falls = sure.filter((row) => row.d < 0).length;
    return h("section", { class: "card" },
      h("h2", null, "Where solutions turn"),
      h("p", { class: "dim" }, `${plural(sure.length - falls, "gain")} above, ${plural(falls, "fall")} below, from the first step to the last. Choose a bar to list its solutions.`),
      histogram(bins, state.where === "" ? null : Number(state.where), (i, pressed) => choose({ where: pressed ? "" : String(i) })),
      h("div", { class: "axis", "aria-hidden": "true" }, h("span", null, "first step"), h("span", null, "last step")),
    );
  }

  sureness(index, valued, choose) {
    const steps = [0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0001];
    const bars = steps.slice(0, -1).map((from, i) => ({ from, to: steps[i + 1], count: valued.filter((row) => row.q >= from && row.q < steps[i + 1]).length }));
    const most = Math.max(1, ...bars.map(({ count }) => count));
    return h("section", { class: "card" },
      h("h2", null, "How sure that is"),
      h("p", { class: "dim" }, `Probability that the marked step is the one. Below ${percent(index.sure)} the page says “no single turn”.`),
      h("div", { class: "ladder" }, bars.toReversed().map(({ from, to, count }) =>
        h("button", { type: "button", class: from >= index.sure ? "rung sure" : "rung", onclick: () => choose({ sure: String(Math.round(100 * from)) }), title: `List those with at least ${percent(from)}` },
          h("span", { class: "range" }, from ? `${Math.round(100 * from)}–${Math.min(100, Math.round(100 * to))} %` : `under ${percent(to)}`), h("span", { class: "bar" }, h("i", { "--share": count / most })), h("span", { class: "count" }, count)))),
    );
  }

  tasks(index, choose) {
    const groups = Map.groupBy(index.rows, (row) => index.problems[row.p].task);
    if (groups.size < 2) return null;
    return h("section", { class: "card" }, h("h2", null, "Tasks"), h("div", { class: "ladder" }, [...groups].map(([task, rows]) => {
      const right = rows.filter((row) => row.r > 0.5).length / rows.length;
      return h("button", { type: "button", class: "rung sure", onclick: () => choose({ task }) }, h("span", { class: "range" }, task), h("span", { class: "bar" }, h("i", { "--share": right })), h("span", { class: "count" }, percent(right)));
    })));
  }

  training(index) {
    const iterations = Map.groupBy(index.problems, ({ iteration }) => iteration);
    if (iterations.size < 2) return null;
    const points = [...iterations].sort(([a], [b]) => a - b).map(([iteration, problems]) => {
      const [right, tries] = [problems.reduce((sum, its) => sum + its.right, 0), problems.reduce((sum, its) => sum + its.tries, 0)];
      return { iteration, share: tries ? right / tries : 0 };
    });
    return h("section", { class: "card" },
      h("h2", null, "Over training"),
      h("p", { class: "dim" }, "Share of right solutions in each iteration. Problems that were asked again show all their iterations."),
      h("div", { class: "columns" }, points.map(({ iteration, share }) => h("div", { class: "column", title: `Iteration ${iteration}: ${percent(share)}` }, h("span", { class: "track" }, h("i", { "--share": share })), h("small", null, iteration), h("span", { class: "hidden" }, `: ${percent(share)} right`)))),
    );
  }
}

const figure = (value, label, kind = "") =>
  h("div", { class: `figure ${kind}` }, h("b", null, typeof value === "number" ? value.toLocaleString("en") : value), h("span", null, label));

function guide(index) {
  const entry = (term, ...said) => h("div", null, h("dt", null, term), h("dd", null, said));
  return h("section", { class: "card guide" },
    h("h2", null, "How to read this page"),
    h("dl", null,
      entry("Success", "The chance to end with the right answer from a point in the solution, measured by letting the model continue from there several times."),
      entry("Tint", "A step is tinted by what it did to that chance: ", h("span", { class: "swatch gain" }, "it rose"), " or ", h("span", { class: "swatch fall" }, "it fell"), "."),
      entry("Band", `Where success lies with ${percent(index.mass)} probability, given the continuations drawn. A wide band means: few were drawn here.`),
      entry("The turn", `For a wrong solution the step across which success fell most, for a right one the step across which it rose most, by ${percent(index.least)} at least. It is marked only where it is ${percent(index.sure)} sure that no other step did more.`),
      entry("Reset", "Where training, or this exploration, went back to and tried again."),
    ),
  );
}

customElements.define("gpo-overview", Overview);
