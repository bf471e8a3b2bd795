// Unpacks the rollouts beside this script, a block when one of its problems is opened.

const unpacked = new Map();

async function unpack(name) {
  const packed = document.getElementById(`data-${name}`).textContent;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

export function load(name) {
  if (!unpacked.has(name)) unpacked.set(name, unpack(name));
  return unpacked.get(name);
}

// The rest of the file may still be on its way when the list is already there.
export const parsed = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve, { once: true });
});

export async function read(index, row) {
  await parsed;
  const [block, place] = index.problems[row.p].place;
  const problem = (await load(`block-${block}`))[place];
  return trajectory(problem, row.i);
}

const turn = (list) => (list ? { step: list[0], before: list[1], after: list[2], probability: list[3] } : null);

// Everything the page shows of one trajectory, the numbers with names.
function trajectory(problem, index) {
  const sample = problem.samples[index];
  const valued = problem.valued[index];
  const text = textOf(problem, index);
  const common = { problem, index, sample, text, outcome: sample.r };
  if (!valued) return { ...common, steps: [text], values: [], turn: null, other: null };
  const { cuts } = valued;
  return {
    ...common,
    outcome: valued.v.at(-1),
    cuts,
    steps: cuts.slice(1).map((end, t) => text.slice(cuts[t], end)),
    values: valued.v,
    low: valued.lo,
    high: valued.hi,
    nodes: valued.nodes,
    reset: valued.reset,
    turn: turn(valued.turn),
    other: turn(valued.other),
  };
}

export function textOf(problem, index) {
  const { p, c, t } = problem.samples[index];
  if (t === undefined) return null;
  return (p === undefined || p === null ? "" : textOf(problem, p).slice(0, c)) + t;
}

// How the graded continuations from before step `place` went.
export function tally({ problem, nodes }, place) {
  const rewards = nodes[place].map((i) => problem.samples[i].r).filter((reward) => reward !== null);
  return { right: rewards.filter((reward) => reward > 0.5).length, all: rewards.length };
}
