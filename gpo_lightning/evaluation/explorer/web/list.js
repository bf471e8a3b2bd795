// The list: search and filters above, and of thousands of rows only those in sight.

import { debounced, h, hidden, put } from "./dom.js";
import { sparkline } from "./charts.js";
import { DEFAULTS, EVENTS, select, SORTS } from "./filters.js";
import { direction, mark, percent, plural, verdict } from "./words.js";

const ROW = 76;
const SPARE = 4;

export class List extends HTMLElement {
  begin({ index, change, open }) {
    Object.assign(this, { index, change, open, rows: [], current: -1 });
    const tasks = [...new Set(index.problems.map(({ task }) => task))].sort();
    const reasons = [...new Set(index.rows.map(({ w }) => w))].filter(Boolean).sort();
    const parts = [...new Set(index.rows.flatMap(({ g }) => Object.keys(g ?? {})))].sort();
    const events = Object.keys(EVENTS).filter((name) => index.rows.some(EVENTS[name]));
    const controls = {
      q: h("input", { type: "search", placeholder: "Search questions and solutions", "aria-label": "Search questions and solutions", "aria-keyshortcuts": "/" }),
      outcome: choice({ "": "right and wrong", right: "right", wrong: "wrong", ungraded: "ungraded" }),
      kind: choice({ "": "any turn", fall: "clear falls", gain: "clear gains", none: "no single turn" }),
      size: range("Change of at least"),
      sure: range("Probability of at least"),
      where: choice({ "": "anywhere", ...Object.fromEntries(Array.from({ length: 10 }, (_, i) => [i, `${10 * i} to ${10 * i + 10} % of the way`])) }),
      task: choice({ "": "all tasks", ...same(tasks) }),
      event: choice({ "": "all events", ...same(events) }),
      why: choice({ "": "all verdicts", ...same(reasons) }),
      part: choice({ "": "any reward", ...same(parts) }),
      from: bound("lowest"),
      to: bound("highest"),
      sort: choice(SORTS),
    };
    this.controls = controls;
    const later = debounced(() => this.filter(), 60);
    for (const [name, control] of Object.entries(controls)) {
      control.addEventListener("input", name === "q" ? later : () => this.filter());
      control.id = `filter-${name}`;
    }
    const labelled = (name, label, show = true) => show && h("label", { for: `filter-${name}` }, h("span", null, label), controls[name], control(controls[name]));
    this.count = h("p", { class: "count", role: "status" });
    this.space = h("div", { class: "space" });
    this.view = h("div", { class: "rows", role: "listbox", tabindex: "0", "aria-label": "Trajectories", onscroll: () => this.draw(), onkeydown: (event) => this.key(event) }, this.space);
    this.more = h("details", { class: "more" }, h("summary", null, "Filters"), h("div", { class: "fields" },
      labelled("outcome", "Outcome"), labelled("kind", "Turn"), labelled("size", "Change of at least"), labelled("sure", "Probability of at least"),
      labelled("where", "Position of the turn"), labelled("task", "Task", tasks.length > 1), labelled("event", "Events", events.length > 0), labelled("why", "Grader’s verdict", reasons.length > 1),
      labelled("part", "Part of the reward", parts.length > 0), parts.length > 0 && h("div", { class: "between" }, labelled("from", "From"), labelled("to", "To")),
      h("button", { type: "button", class: "plain", onclick: () => this.reset() }, "Clear all")));
    put(this,
      h("div", { class: "tools" }, controls.q, this.more, h("div", { class: "line" }, this.count, h("label", { class: "sort", for: "filter-sort" }, hidden("Sort by"), controls.sort))),
      this.view,
    );
    new ResizeObserver(() => this.draw()).observe(this.view);
  }

  set(state) {
    if (this.applied && Object.entries(state).every(([name, value]) => this.applied[name] === value)) return;
    for (const [name, control] of Object.entries(this.controls)) {
      if (control.value !== state[name]) control.value = state[name];
      control.dispatchEvent(new Event("shown"));
    }
    this.apply(state);
  }

  get state() {
    return Object.fromEntries(Object.entries(this.controls).map(([name, { value }]) => [name, value]));
  }

  reset() {
    this.set(DEFAULTS);
    this.change(this.state);
  }

  filter() {
    for (const control of Object.values(this.controls)) control.dispatchEvent(new Event("shown"));
    this.apply(this.state);
    this.change(this.state);
  }

  apply(state) {
    this.applied = { ...state };
    this.rows = select(this.index, state, this.searched);
    const changed = Object.keys(DEFAULTS).filter((name) => !["sort", "q", "from", "to"].includes(name) && state[name] !== DEFAULTS[name]).length;
    this.more.querySelector("summary").textContent = changed ? `Filters (${changed})` : "Filters";
    this.count.textContent = this.rows.length === this.index.rows.length ? plural(this.rows.length, "trajectory", "trajectories") : `${this.rows.length.toLocaleString("en")} of ${plural(this.index.rows.length, "trajectory", "trajectories")}`;
    this.space.style.height = `${ROW * this.rows.length}px`;
    this.current = this.rows.indexOf(this.selected);
    this.draw();
  }

  // Marks the row that is shown beside the list, and brings it into sight.
  mark(row) {
    this.selected = row;
    this.current = this.rows.indexOf(row);
    const [top, height] = [ROW * this.current, this.view.clientHeight];
    if (this.current >= 0 && (top < this.view.scrollTop || top + ROW > this.view.scrollTop + height)) this.view.scrollTop = Math.max(0, top - height / 2 + ROW / 2);
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / ROW) + SPARE);
    const shown = this.rows.slice(first, last).map((row, i) => this.item(row, first + i));
    this.space.replaceChildren(...(this.rows.length ? shown : [h("p", { class: "empty" }, "No trajectory is like that.")]));
    const active = this.current >= first && this.current < last ? `row-${this.current}` : "";
    if (active) this.view.setAttribute("aria-activedescendant", active);
    else this.view.removeAttribute("aria-activedescendant");
  }

  item(row, number) {
    const problem = this.index.problems[row.p];
    const outcome = verdict(row.r);
    const clear = row.q >= this.index.sure;
    return h("div", { class: "row", role: "option", id: `row-${number}`, "aria-selected": String(number === this.current), "aria-setsize": this.rows.length, "aria-posinset": number + 1, "--top": `${ROW * number}px`, onclick: () => this.open(row) },
      h("span", { class: `badge ${outcome}`, title: outcome }, h("span", { "aria-hidden": "true" }, mark[outcome]), hidden(outcome)),
      h("span", { class: "what" }, h("span", { class: "question" }, problem.question || problem.id), this.turn(row, clear)),
      row.v ? sparkline(row, this.index.sure) : null,
    );
  }

  turn(row, clear) {
    if (row.t === undefined) return h("span", { class: "turn dim" }, "not valued");
    if (!clear) return h("span", { class: "turn dim" }, "no single turn");
    const [before, after] = [row.v[row.t], row.v[row.t + 1]];
    return h("span", { class: "turn" }, h("b", { class: direction(row.d) }, `${before} → ${after} %`), ` at step ${row.t + 1} of ${row.v.length - 1}`, h("span", { class: "dim" }, ` · ${percent(row.q)} sure`));
  }

  step(by) {
    const next = this.rows[Math.min(this.rows.length - 1, Math.max(0, this.current + by))];
    if (next) this.open(next);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.view.clientHeight / ROW) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.step(by === Infinity ? this.rows.length : by === -Infinity ? -this.rows.length : by);
  }
}

const same = (names) => Object.fromEntries(names.map((name) => [name, name]));
const choice = (options) => h("select", null, Object.entries(options).map(([value, label]) => h("option", { value }, label)));
const bound = (placeholder) => h("input", { type: "number", step: "any", placeholder });
const range = (label) => h("input", { type: "range", min: 0, max: 100, step: 5, value: "0", "aria-label": label });

// The number a range stands at.
function control(input) {
  if (input.type !== "range") return null;
  const output = h("output", { for: input.id }, "0 %");
  input.addEventListener("shown", () => (output.textContent = `${input.value} %`));
  return output;
}

customElements.define("gpo-list", List);
