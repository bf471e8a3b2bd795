"""What each rank must find again: its tokens, its seconds, what befell it, its random numbers."""

from collections import Counter
from typing import Any

from gpo_lightning.engines import Ledger
from gpo_lightning.rollouts.clock import Clock
from gpo_lightning.rollouts.ranks import gather
from gpo_lightning.runs.random_state import random_state


def rank_states(ledger: Ledger, clock: Clock, incidents: Counter[str]) -> list[dict[str, Any]]:
    """Of all ranks, in rank order; every rank must call it."""
    own = {
        "tokens": ledger.state_dict(),
        "seconds": dict(clock.seconds),
        "incidents": dict(incidents),
        "random": random_state(),
    }
    return gather([own])


def restore_rank_state(
    states: list[dict[str, Any]], rank: int, ranks: int, ledger: Ledger, clock: Clock, incidents: Counter[str]
) -> dict[str, Any] | None:
    """Take this rank's part, and return its random state.

    Where the number of ranks has changed there is no random state to take, and rank 0 takes all that was counted.
    """
    incidents.clear()
    if len(states) == ranks:
        incidents.update(states[rank]["incidents"])
        ledger.load_state_dict(states[rank]["tokens"])
        clock.seconds = dict(states[rank]["seconds"])
        return states[rank]["random"]
    if rank == 0:
        for state in states:
            incidents.update(state["incidents"])
        ledger.load_state_dict(_summed([state["tokens"] for state in states]))
        clock.seconds = dict(states[0]["seconds"])
    return None


def _summed(ledgers: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    return {
        purpose: {kind: sum(ledger[purpose][kind] for ledger in ledgers) for kind in kinds}
        for purpose, kinds in ledgers[0].items()
    }
