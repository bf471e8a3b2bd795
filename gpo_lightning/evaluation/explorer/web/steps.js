// The text as read, a step a row, with the value curve beside it.

import { h, hidden, put } from "./dom.js";
import { curve } from "./charts.js";
import { tally } from "./data.js";
import { Prose } from "./prose.js";
import { change, direction, percent } from "./words.js";

export class Steps extends HTMLElement {
  show({ trajectory, sure, plain, selected, choose }) {
    Object.assign(this, { trajectory, sure });
    const prose = new Prose();
    this.items = trajectory.steps.map((text, t) => this.step(text, t, plain ? null : prose, choose));
    this.drawing = h("div", { class: "curve" });
    const valued = trajectory.values.length > 0;
    put(this,
      h("div", { class: valued ? "reading" : "reading bare" },
        h("ol", { class: "steps", "aria-label": "Steps" }, this.items),
        valued && h("div", { class: "beside" }, h("div", { class: "scale", "aria-hidden": "true" }, h("span", null, "0"), h("span", null, "success"), h("span", null, "100 %")), this.drawing),
      ),
    );
    this.select(selected);
    if (!valued) return;
    this.observer?.disconnect();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.firstChild);
  }

  step(text, t, prose, choose) {
    const { values, turn, other, reset } = this.trajectory;
    const body = h("div", { class: "text" }, prose ? prose.render(text) : h("div", { class: "raw" }, text.replace(/\n$/, "")));
    if (!values.length) return h("li", { class: "step" }, body);
    const gained = values[t + 1] - values[t];
    const marks = [turn, other].filter((its) => its && its.step === t && its.probability >= this.sure).map((its) => {
      const kind = direction(its.after - its.before);
      return h("span", { class: `flag ${kind}` }, its === turn ? "the turn" : `the ${kind} before`, h("span", { class: "how" }, ` ${kind === "fall" ? "▼" : "▲"} ${change(its)}`));
    });
    if (t === reset) marks.push(h("span", { class: "flag reset", title: "Training, or this exploration, went back to before this step" }, "reset to here"));
    const said = `Step ${t + 1}: success ${percent(values[t])} before, ${percent(values[t + 1])} after`;
    return h("li", {
      class: `step ${direction(gained)}${marks.length && turn?.step === t ? " marked" : ""}`, "--tint": Math.min(1, Math.abs(gained)).toFixed(3), "data-step": t,
      onclick: () => getSelection().isCollapsed && choose(t),
    },
      h("button", { type: "button", class: "number", "aria-label": said, onclick: (event) => { event.stopPropagation(); choose(t); } }, t + 1),
      h("div", { class: "content" }, marks.length ? h("div", { class: "flags" }, marks) : null, body, h("p", { class: "detail" }, this.detail(t))),
    );
  }

  // What is known at both ends of a step, in words.
  detail(t) {
    const { values, low, high } = this.trajectory;
    const end = values.length - 1;
    const place = (at) => {
      if (at === end) return `the end: ${values[end] > 0.5 ? "right" : "wrong"}`;
      const { right, all } = tally(this.trajectory, at);
      return [h("b", null, percent(values[at])), ` (between ${percent(low[at])} and ${percent(high[at])}; ${all ? `${right} of ${all} continuations right` : "no continuation drawn here"})`];
    };
    return [h("span", null, "Before: ", place(t)), " ", h("span", null, "After: ", place(t + 1))];
  }

  select(step) {
    this.items?.forEach((item, t) => {
      item.classList.toggle("selected", t === step);
      item.querySelector(".number")?.setAttribute("aria-pressed", String(t === step));
    });
    if (this.trajectory?.values.length) this.draw();
  }

  // Brings a step into sight without moving what is in sight already.
  reveal(step) {
    this.items?.[step]?.scrollIntoView({ block: "nearest" });
  }

  draw() {
    const width = this.drawing.clientWidth;
    if (!width) return;
    const top = this.drawing.getBoundingClientRect().top;
    const boxes = this.items.map((item) => item.getBoundingClientRect());
    const edges = [...boxes.map((box) => box.top - top), boxes.at(-1).bottom - top];
    this.drawing.replaceChildren(curve(this.trajectory, edges, width, this.sure));
  }
}

customElements.define("gpo-steps", Steps);
