// One trajectory: the question, what became of it in a sentence, its steps, and what happens otherwise.

import { h, put } from "./dom.js";
import { read, tally } from "./data.js";
import { prose } from "./prose.js";
import { aside, direction, headline, mark, percent, verdict } from "./words.js";

export class Trajectory extends HTMLElement {
  async show({ index, row, step, open, choose, link, turnPage }) {
    const asked = (this.asked = Symbol("asked"));
    const trajectory = await read(index, row);
    if (this.asked !== asked) return; // another one was opened meanwhile
    const same = this.row === row;
    Object.assign(this, { index, row, trajectory, open, choose, turnPage });
    const first = trajectory.turn?.step ?? 0;
    this.step = step === null || step === undefined ? first : Math.min(Math.max(0, step), trajectory.steps.length - 1);
    if (!same) this.build(link);
    this.select(this.step);
  }

  build(link) {
    const { index, row, trajectory } = this;
    const { problem, sample } = trajectory;
    this.steps = document.createElement("gpo-steps");
    this.otherwise = document.createElement("gpo-otherwise");
    const [siblings, training] = [document.createElement("gpo-siblings"), document.createElement("gpo-training")];
    const outcome = verdict(sample.r);
    const copy = h("button", { type: "button", class: "plain", onclick: async () => { await copied(link()); copy.textContent = "Link copied"; } }, "Copy link");
    put(this,
      h("header", { class: "head" },
        h("p", { class: "crumbs" },
          h("span", { class: `badge ${outcome}` }, h("span", { "aria-hidden": "true" }, `${mark[outcome]} `), outcome),
          h("span", null, answered(sample, problem)),
          h("span", { class: "dim id", title: problem.id }, problem.id),
          h("span", { class: "actions" }, this.neighbour("‹", "Previous trajectory", -1), this.neighbour("›", "Next trajectory", 1), copy)),
        h("h1", { tabindex: "-1" }, headline(trajectory, index.sure)),
        this.evidence(),
        paid(sample),
      ),
      h("section", { class: "card question", "aria-label": "The question" }, question(problem)),
      h("section", { class: "card solution", "aria-label": "The solution, step by step" }, h("div", { class: "card-head" }, h("h2", null, "The solution"), this.switch()), this.steps),
      h("section", { class: "card" }, this.otherwise),
      h("section", { class: "card" }, training),
      h("section", { class: "card" }, siblings),
    );
    this.fill();
    siblings.show({ trajectory, open: (i) => this.open(index.rows.find((its) => its.p === row.p && its.i === i)) });
    training.show({ index, row, open: this.open });
    for (const part of [siblings, training, this.otherwise]) part.parentElement.hidden = !part.childNodes.length && part !== this.otherwise;
    this.otherwise.parentElement.hidden = !trajectory.values.length;
  }

  neighbour(sign, label, by) {
    return h("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick: () => this.turnPage(by) }, sign);
  }

  evidence() {
    const { trajectory, index } = this;
    if (!trajectory.turn) return null;
    const { turn, values } = trajectory;
    const other = aside(trajectory, index.sure);
    const count = (place) => {
      const { right, all } = tally(trajectory, place);
      return all ? `${right} of ${all} continuations were right` : "no continuation was drawn";
    };
    const last = turn.step + 1 === values.length - 1;
    const evidence = turn.probability >= index.sure
      ? `Before it, ${count(turn.step)}; after it, ${last ? "the solution ended" : count(turn.step + 1)}.`
      : `A step is called the turn only at ${percent(index.sure)} probability or more.`;
    return h("p", { class: "evidence" }, evidence, other ? [" ", other] : null);
  }

  switch() {
    const button = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => {
      this.plain = !this.plain;
      button.setAttribute("aria-pressed", String(this.plain));
      this.fill();
    } }, "As written");
    button.setAttribute("aria-pressed", String(Boolean(this.plain)));
    return button;
  }

  fill() {
    this.steps.show({ trajectory: this.trajectory, sure: this.index.sure, plain: this.plain, selected: this.step, choose: this.choose });
  }

  select(step) {
    this.step = step;
    this.steps.select(step);
    if (this.trajectory.values.length) this.otherwise.show({ trajectory: this.trajectory, step });
  }

  move(by) {
    if (!this.trajectory?.values.length) return;
    this.choose(Math.min(this.trajectory.steps.length - 1, Math.max(0, this.step + by)));
    this.steps.reveal(this.step);
  }

  toTurn() {
    if (!this.trajectory?.turn) return;
    this.choose(this.trajectory.turn.step);
    this.steps.reveal(this.step);
  }
}

const answered = ({ a }, { answer }) => (a === null ? `no answer found, ${answer} was asked for` : a === answer ? `answer ${a}` : `answered ${a} where ${answer} is right`);

// What the response was paid, where that is more than its success.
function paid({ g }) {
  if (!g) return null;
  const { reward, ...parts } = g;
  const named = [...Object.entries(parts), ...(reward === undefined ? [] : [["in all", reward]])];
  return h("p", { class: "paid dim" }, "Reward: ", named.map(([name, value], i) => [i ? " · " : "", `${name} `, h("b", null, value.toLocaleString("en", { maximumSignificantDigits: 4 }))]));
}

function question({ prompt, messages }) {
  if (prompt !== null) return h("div", { class: "turn user" }, prose(prompt));
  return messages.filter(([, content]) => content.trim()).map(([role, content]) => h("div", { class: `turn ${["user", "system", "assistant"].includes(role) ? role : "user"}` }, h("span", { class: "role" }, role), prose(content)));
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page opened from a file may not reach the clipboard; the address bar has the link as well.
  }
}

customElements.define("gpo-trajectory", Trajectory);
