// What happens otherwise: continuations from a step, the problem's other solutions as a tree, other iterations.

import { h, hidden, put } from "./dom.js";
import { dots } from "./charts.js";
import { tally, textOf } from "./data.js";
import { percent, plural, split, verdict } from "./words.js";

const FIRST = 4;

export class Otherwise extends HTMLElement {
  show({ trajectory, step }) {
    Object.assign(this, { trajectory, step });
    const { reset, nodes } = trajectory;
    const places = [
      { name: `before step ${step + 1}`, place: step, ids: nodes[step] },
      ...(step + 1 < nodes.length - 1 ? [{ name: `after step ${step + 1}`, place: step + 1, ids: nodes[step + 1] }] : []),
    ];
    const again = nodes[reset].filter((i) => trajectory.problem.samples[i].k === "reset");
    if (again.length) places.push({ name: `reset group, before step ${reset + 1}`, place: reset, ids: again });
    this.places = places;
    this.chosen ??= 0;
    if (this.chosen >= places.length) this.chosen = 0;
    this.draw();
  }

  draw() {
    const { trajectory, places, chosen } = this;
    put(this,
      h("h2", null, "What happens otherwise"),
      h("div", { class: "tabs", role: "group", "aria-label": "Continue from" }, places.map(({ name, ids }, i) => {
        const rewards = ids.map((id) => trajectory.problem.samples[id].r).filter((reward) => reward !== null);
        const right = rewards.filter((reward) => reward > 0.5).length;
        return h("button", { type: "button", "aria-pressed": String(i === chosen), onclick: () => { this.chosen = i; this.draw(); } }, name, h("span", { class: "tally" }, ` ${right} of ${rewards.length} right`));
      })),
      this.group(places[chosen]),
    );
  }

  group({ place, ids }) {
    const { problem, cuts, text } = this.trajectory;
    if (!ids.length) return h("p", { class: "dim" }, "No continuation was drawn from here; the value is read from those of neighbouring steps.");
    const samples = ids.map((id) => ({ id, ...problem.samples[id] }));
    const right = samples.filter(({ r }) => r > 0.5);
    const wrong = samples.filter(({ r }) => !(r > 0.5));
    const reference = text.slice(cuts[place]);
    return h("div", { class: "group" },
      h("p", { class: "dots-line" }, dots([...right, ...wrong].map(({ r }) => r)), h("span", { class: "dim" }, ` ${plural(samples.length, "continuation")} from exactly this point; what each shares with the solution above is pale, its first other word is marked.`)),
      h("div", { class: "sides" }, this.side("right", right, cuts[place], reference), this.side("wrong", wrong, cuts[place], reference)),
    );
  }

  side(kind, samples, from, reference) {
    const told = distinct(samples.filter(({ t }) => t !== undefined), (sample) => textOf(this.trajectory.problem, sample.id).slice(from));
    const kept = told.reduce((sum, { count }) => sum + count, 0);
    const card = ({ text, sample, count }) => {
      const [same, first, rest] = split(text, reference);
      return h("li", { class: "continuation" },
        h("div", { class: "text" }, h("span", { class: "same" }, same), first ? h("mark", null, first) : null, rest),
        h("p", { class: "dim" }, [count > 1 ? `${count} times the same` : null, first || sample.a === null ? null : "word for word as above", sample.a !== null ? `answer ${sample.a}` : "no answer found", sample.x ? "cut off" : null, sample.k, sample.w !== kind ? sample.w : null].filter(Boolean).join(" · ")),
      );
    };
    const [first, rest] = [told.slice(0, FIRST), told.slice(FIRST)];
    return h("section", { class: `side ${kind}`, "aria-label": `${kind} continuations` },
      h("h3", null, `${samples.length} ${kind}`),
      h("ul", null, first.map(card)),
      rest.length ? h("details", null, h("summary", null, `${rest.length} more`), h("ul", null, rest.map(card))) : null,
      kept < samples.length ? h("p", { class: "dim" }, `${samples.length - kept} more are in the Parquet file only.`) : null,
    );
  }
}

function distinct(samples, textOfSample) {
  const groups = new Map();
  for (const sample of samples) {
    const text = textOfSample(sample).trimEnd();
    if (groups.has(text)) groups.get(text).count++;
    else groups.set(text, { text, sample, count: 1 });
  }
  return [...groups.values()].sort((a, b) => b.count - a.count);
}

// The problem's solutions as a tree: what several begin with stands once, above them.
export class Siblings extends HTMLElement {
  show({ trajectory, open }) {
    const { problem, index } = trajectory;
    const tries = problem.samples.map((sample, i) => ({ i, ...sample, text: sample.s === undefined && sample.t !== undefined ? textOf(problem, i) : null })).filter(({ text, k, i }) => text !== null && (k !== "solution" || i === index));
    if (tries.length < 2) return put(this);
    put(this,
      h("h2", null, `All ${tries.length} solutions of this problem`),
      h("p", { class: "dim note" }, "What several begin with stands once; where they part, the tree branches."),
      h("ul", { class: "tree" }, this.branch(tries, 0, index, open)),
    );
  }

  branch(tries, from, index, open) {
    const [first] = tries;
    if (tries.every(({ text }) => text.trimEnd() === first.text.trimEnd())) return [this.leaf(tries, from, index, open)];
    const { end, next } = shared(tries.map(({ text }) => text), from);
    const groups = Map.groupBy(tries, ({ text }) => text.slice(end).match(next)[0]);
    const children = () => [...groups.values()].flatMap((group) => this.branch(group, end, index, open));
    const graded = tries.filter(({ r }) => r !== null);
    const right = graded.filter(({ r }) => r > 0.5).length;
    if (end === from) return children();
    return [h("li", { class: "fork" }, h("div", { class: "shared" }, dots(tries.map(({ r }) => r)), h("span", { class: "hidden" }, `${right} of ${graded.length} right: `), h("span", { class: "text" }, clipped(tries[0].text.slice(from, end)))), h("ul", null, children()))];
  }

  leaf(same, from, index, open) {
    const { i, r, a, text, x } = same.find((one) => one.i === index) ?? same[0];
    const outcome = verdict(r);
    const rest = clipped(text.slice(from));
    return h("li", { class: `leaf ${outcome}` },
      h("a", { href: "#", "aria-current": i === index ? "true" : undefined, onclick: (event) => { event.preventDefault(); open(i); } }, dots(same.map((one) => one.r)), h("span", { class: "text" }, rest || "(ends here)"), h("span", { class: "dim" }, ` ${outcome}${a !== null ? `, ${a}` : ""}${x ? ", cut off" : ""}${i === index ? " · shown above" : ""}`)),
    );
  }
}

const clipped = (text) => (text.length > 220 ? `${text.slice(0, 110).trimEnd()} … ${text.slice(-100).trimStart()}` : text).trim();
const WORD = /^\s*\S*/;
const LINE = /^\s*[^\n]*/;

// Up to where all texts are the same, cut between lines where they are short, else between words; and what comes next.
function shared(texts, from) {
  const shortest = Math.min(...texts.map(({ length }) => length));
  let end = from;
  while (end < shortest && texts.every((text) => text[end] === texts[0][end])) end++;
  if (texts.every((text) => text.length === end)) return { end, next: WORD };
  const line = texts[0].lastIndexOf("\n", end - 1) + 1;
  if (end - line < 60 && line >= from) return { end: line, next: LINE };
  while (end > from && /\S/.test(texts[0][end - 1])) end--;
  return { end, next: WORD };
}

// The same problem in other iterations.
export class Training extends HTMLElement {
  show({ index, row, open }) {
    const { id } = index.problems[row.p];
    const asked = index.problems.map((problem, p) => ({ ...problem, p })).filter((problem) => problem.id === id).sort((a, b) => a.iteration - b.iteration);
    if (asked.length < 2) return put(this);
    put(this,
      h("h2", null, "The same problem over training"),
      h("ol", { class: "iterations" }, asked.map(({ iteration, p, right, tries }) => {
        const best = index.rows.filter((its) => its.p === p).sort((a, b) => (b.q ?? -1) - (a.q ?? -1))[0];
        const clear = best.q >= index.sure;
        return h("li", { class: p === row.p ? "now" : "" }, h("button", { type: "button", onclick: () => open(best) },
          h("span", { class: "track" }, h("i", { "--share": tries ? right / tries : 0 })),
          h("b", null, `${right} of ${tries} right`), h("span", { class: "dim" }, `iteration ${iteration}`),
          h("span", { class: clear ? (best.d < 0 ? "fall" : "gain") : "dim" }, clear ? `${best.d < 0 ? "▼" : "▲"} ${percent(Math.abs(best.d))} at step ${best.t + 1}` : "no single turn")));
      })),
    );
  }
}

customElements.define("gpo-otherwise", Otherwise);
customElements.define("gpo-siblings", Siblings);
customElements.define("gpo-training", Training);
