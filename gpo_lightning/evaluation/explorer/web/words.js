// What the page says in words, and which words two continuations share.

import { h } from "./dom.js";

export const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
export const change = ({ before, after }) => `${Math.round(100 * before)} → ${percent(after)}`;
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
export const verdict = (reward) => (reward === null ? "ungraded" : reward > 0.5 ? "right" : "wrong");
export const direction = (change) => (change < 0 ? "fall" : "gain");
export const mark = { right: "✓", wrong: "✗", ungraded: "?" };

const number = (value, kind) => h("b", { class: kind ?? "" }, percent(value));

// The sentence a trajectory is introduced with; `counts` are right and all continuations before and after the turn.
export function headline(trajectory, sure) {
  const { turn, outcome } = trajectory;
  if (!turn) return [h("span", { class: "say" }, "Its steps were not valued.")];
  if (turn.probability < sure) return [h("span", { class: "say" }, "No single turn."), " ", ...noTurn(trajectory)];
  const kind = direction(turn.after - turn.before);
  const verb = kind === "fall" ? "falls" : "rises";
  return [
    h("span", { class: "say" }, `It turns at step ${turn.step + 1}.`),
    ` Success ${verb} from `, number(turn.before), " to ", number(turn.after, kind), " here; ",
    h("span", { class: "sure" }, `${percent(turn.probability)} sure`), ".",
    outcome === null ? "" : " ",
  ];
}

function noTurn({ turn, values, outcome, sureOf }) {
  const start = values[0];
  if (outcome > 0.5 && Math.min(...values) > 0.8) return [`This was never in doubt: success stays above ${percent(0.8)} from the start.`];
  if (outcome <= 0.5 && Math.max(...values) < 0.2) return [`There was little to lose: success never exceeds ${percent(Math.max(...values))}.`];
  const towards = outcome > 0.5 ? "gain" : "fall";
  return [
    `Success goes from ${percent(start)} to ${percent(outcome)}, and the likeliest ${towards}, at step ${turn.step + 1}, `,
    `is the one with only ${percent(turn.probability)} probability.`,
  ];
}

// What the turn in the other direction was, if there was one.
export function aside({ other }, sure) {
  if (!other || other.probability < sure) return null;
  const kind = direction(other.after - other.before);
  const said = kind === "gain" ? "Before it was lost, it had been won" : "It had been lost before";
  return [
    `${said} at step ${other.step + 1}: from `, number(other.before), " to ", number(other.after, kind),
    `, ${percent(other.probability)} sure.`,
  ];
}

const pieces = (text) => text.match(/\s+|[^\s]+/g) ?? [];

// The text of a continuation in three parts: what it shares with `reference`, its first word that differs, the rest.
export function split(text, reference) {
  const [own, other] = [pieces(text), pieces(reference)];
  let same = 0;
  while (same < own.length && own[same] === other[same]) same++;
  if (same === own.length) return [text, "", ""];
  let end = same;
  while (end < own.length && !own[end].trim()) end++;
  return [own.slice(0, same).join(""), own.slice(same, end + 1).join(""), own.slice(end + 1).join("")];
}
