// Which trajectories are listed, and in which order. Pure functions of the index, the state and the searched texts.

export const DEFAULTS = { q: "", outcome: "", task: "", kind: "", size: "0", sure: "0", where: "", event: "", why: "", part: "", from: "", to: "", sort: "turn" };

export const EVENTS = {
  truncated: (row) => row.x === 1,
  ungraded: (row) => row.r === null,
  "not valued": (row) => row.t === undefined,
};

const valued = (row) => row.t !== undefined;
export const position = (row) => (row.v.length > 2 ? row.t / (row.v.length - 2) : 0);
export const bin = (row, bins) => Math.min(bins - 1, Math.floor(position(row) * bins));
export const BINS = 10;

const ORDERS = {
  turn: (a, b) => weight(b) - weight(a),
  sure: (a, b) => (b.q ?? -1) - (a.q ?? -1),
  size: (a, b) => Math.abs(b.d ?? 0) - Math.abs(a.d ?? 0),
  early: (a, b) => (valued(a) ? position(a) : 2) - (valued(b) ? position(b) : 2),
  steps: (a, b) => (b.v?.length ?? 0) - (a.v?.length ?? 0),
  file: () => 0,
};

export const SORTS = {
  turn: "clearest turn",
  sure: "most probable turn",
  size: "largest change",
  early: "earliest turn",
  steps: "most steps",
  file: "as in the file",
};

const weight = (row) => (valued(row) ? Math.abs(row.d) * row.q : -1);

export function select(index, state, searched) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const [size, sure] = [Number(state.size) / 100, Number(state.sure) / 100];
  const kept = index.rows.filter((row, number) => {
    const problem = index.problems[row.p];
    if (state.outcome && (row.r === null ? "ungraded" : row.r > 0.5 ? "right" : "wrong") !== state.outcome) return false;
    if (state.task && problem.task !== state.task) return false;
    if (state.event && !EVENTS[state.event](row)) return false;
    if (state.why && row.w !== state.why) return false;
    if (state.part && !within(row.g?.[state.part], state.from, state.to)) return false;
    if (size > 0 && !(Math.abs(row.d ?? 0) >= size)) return false;
    if (sure > 0 && !((row.q ?? 0) >= sure)) return false;
    if (state.kind === "none" && !(valued(row) && row.q < index.sure)) return false;
    if (state.kind === "fall" && !(row.q >= index.sure && row.d < 0)) return false;
    if (state.kind === "gain" && !(row.q >= index.sure && row.d > 0)) return false;
    if (state.where !== "" && !(row.q >= index.sure && bin(row, BINS) === Number(state.where))) return false;
    if (!words.length) return true;
    prepare(problem, row, searched?.[number]);
    return words.every((word) => problem.lower.includes(word) || row.lower?.includes(word));
  });
  return state.sort === "file" ? kept : kept.sort(ORDERS[state.sort] ?? ORDERS.turn);
}

// A bound that is left empty does not bind.
const within = (paid, from, to) => paid !== undefined && (from === "" || paid >= Number(from)) && (to === "" || paid <= Number(to));

// Small letters, made once; the page does it before anybody searches.
export function prepare(problem, row, text) {
  problem.lower ??= `${problem.id} ${problem.question} ${problem.answer}`.toLowerCase();
  if (text !== undefined) row.lower ??= text.toLowerCase();
}
