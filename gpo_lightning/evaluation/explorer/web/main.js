// The page: what is shown follows from its address, so that every view is a link.

import { h, put } from "./dom.js";
import { load, parsed } from "./data.js";
import { DEFAULTS, prepare } from "./filters.js";

const KEYS = [
  ["j, k", "next, previous trajectory"],
  ["←, →", "previous, next step"],
  ["t", "to the turn"],
  ["/", "search"],
  ["Escape", "back to the overview"],
  ["?", "these keys"],
];

class Explorer extends HTMLElement {
  async connectedCallback() {
    this.index = await load("index");
    this.overview = document.createElement("gpo-overview");
    this.list = document.createElement("gpo-list");
    this.trajectory = document.createElement("gpo-trajectory");
    this.help = this.dialog();
    this.sheet = h("div", { class: "sheet", tabindex: "-1" }, this.overview, this.trajectory);
    put(this,
      h("header", { class: "top" },
        h("a", { class: "skip", href: "#", onclick: (event) => { event.preventDefault(); this.sheet.focus(); } }, "Skip to the solution"),
        h("button", { type: "button", class: "home", onclick: () => this.close() }, h("span", { class: "logo", "aria-hidden": "true" }), h("span", null, this.index.title)),
        h("span", { class: "spacer" }),
        h("button", { type: "button", class: "plain", onclick: () => this.close() }, "Overview"),
        h("button", { type: "button", class: "plain only-phone", onclick: () => this.close({ view: "list" }) }, "List"),
        h("button", { type: "button", class: "plain only-desk", onclick: () => this.help.showModal() }, "Keys"),
      ),
      h("main", { class: "panes" }, h("section", { class: "pane", "aria-label": "Trajectories" }, h("h1", { class: "hidden" }, "Trajectories"), this.list), this.sheet),
      this.help,
    );
    this.list.begin({ index: this.index, change: (state) => this.go({ ...this.state, ...state }), open: (row) => this.open(row) });
    addEventListener("popstate", () => this.render(fromAddress()));
    addEventListener("keydown", (event) => this.key(event));
    this.render(fromAddress());
    await parsed;
    // Search covers what the solutions say as soon as their texts are unpacked.
    this.list.searched = await load("searched");
    this.index.rows.forEach((row, number) => prepare(this.index.problems[row.p], row, this.list.searched[number]));
    this.list.apply(this.list.state);
    this.dataset.ready = "";
    performance.mark("ready");
  }

  // Parameters of the address that open a row. Problems have names; numbers of rows would change with the file.
  address(row) {
    const { id, iteration } = this.index.problems[row.p];
    return { problem: id, iteration: String(iteration), sample: String(row.i) };
  }

  find({ problem, iteration, sample }) {
    if (problem === undefined) return null;
    const fits = (row) => this.index.problems[row.p].id === problem && String(this.index.problems[row.p].iteration) === iteration;
    return this.index.rows.find((row) => fits(row) && String(row.i) === sample) ?? this.index.rows.find(fits) ?? null;
  }

  go(state, fresh = false) {
    const entries = Object.entries(state).filter(([name, value]) => value !== undefined && value !== DEFAULTS[name]);
    const hash = `#${new URLSearchParams(entries)}`;
    try {
      history[fresh ? "pushState" : "replaceState"](null, "", hash);
    } catch {
      // Inside a notebook's frame there is no history, and nothing is lost without.
    }
    this.render(state);
  }

  open(row) {
    if (row) this.go({ ...this.state, ...this.address(row), step: undefined }, true);
  }

  close(view = {}) {
    const { problem, iteration, sample, step, view: _, ...rest } = this.state;
    this.go({ ...rest, ...view }, true);
  }

  async render(state) {
    this.state = state;
    this.list.set({ ...DEFAULTS, ...pick(state, Object.keys(DEFAULTS)) });
    const row = this.find(state);
    const before = this.row;
    this.row = row;
    this.classList.toggle("listing", row === null && state.view === "list");
    this.overview.hidden = row !== null;
    this.trajectory.hidden = row === null;
    this.list.mark(row);
    if (row === null) {
      this.overview.show({ index: this.index, state, choose: (change) => this.go({ ...this.state, ...change }) });
      return;
    }
    const step = state.step === undefined ? null : Number(state.step) - 1;
    await this.trajectory.show({
      index: this.index, row, step,
      open: (other) => this.open(other),
      choose: (chosen) => { this.trajectory.select(chosen); this.go({ ...this.state, ...this.address(row), step: String(chosen + 1) }); },
      link: () => location.href,
      turnPage: (by) => this.list.step(by),
    });
    if (before !== row) this.sheet.scrollTop = 0;
    document.title = `${this.index.problems[row.p].id} · ${this.index.title}`;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape") {
      if (typing) typing.blur();
      else this.close();
      return;
    }
    if (typing) return;
    const action = {
      "/": () => this.list.controls.q.focus(),
      "?": () => this.help.showModal(),
      j: () => this.list.step(1),
      k: () => this.list.step(-1),
      ArrowRight: () => this.trajectory.move(1),
      ArrowLeft: () => this.trajectory.move(-1),
      t: () => this.trajectory.toTurn(),
    }[event.key];
    if (!action || (event.key.startsWith("Arrow") && this.row === null)) return;
    event.preventDefault();
    action();
  }

  dialog() {
    const dialog = h("dialog", { "aria-label": "Keys" }, h("h2", null, "Keys"),
      h("dl", { class: "keys" }, KEYS.map(([key, meaning]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, meaning)))),
      h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Close"));
    return dialog;
  }
}

const fromAddress = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });
const pick = (state, names) => Object.fromEntries(names.filter((name) => name in state).map((name) => [name, state[name]]));

customElements.define("gpo-explorer", Explorer);
