"""Ranks that notice each other's death.

A rank that waits for a dead one in a collective waits for half an hour (NCCL), or fails with a message that names a
socket. Here every process looks after its neighbours: who started others after those, they after who started them.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from subprocess import Popen, TimeoutExpired
from time import monotonic

from gpo_lightning.errors import GPOError, RankLost
from gpo_lightning.runs.launcher import Starter

_LOOK_SECONDS = 0.5
_GO_ON = "What was finished is safe: go on with the same command and --ckpt_path last."
_LOST_LINK = ("gloo", "nccl", "connection", "broken pipe", "tcpstore", "socket")


class Watch:
    """Within: when another process of the run dies this one ends too, by itself if it can and by force if it hangs.

    Args:
        children: the processes this one started as ranks, in rank order; asked again at every look.
        first_rank: the rank of this process, if it started others.
        starter: who started this process as a rank.
        last_resort: called before this process is ended by force, from another thread.
        patience: seconds to end by itself.
    """

    def __init__(
        self,
        children: Callable[[], list[Popen[bytes]]] = list,
        first_rank: int = 0,
        starter: Starter | None = None,
        last_resort: Callable[[], None] = lambda: None,
        patience: float = 10.0,
    ) -> None:
        self.children, self.first_rank, self.starter = children, first_rank, starter
        self.last_resort, self.patience = last_resort, patience
        self.lost: RankLost | None = None
        self._over, self._noticed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpo-rank-watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.lost is not None:
            self._end_children()

    def check(self) -> None:
        """Stop here if another process is gone.

        Raises:
            RankLost: it is.
        """
        if self.lost is not None:
            raise self.lost

    def explain(self, error: BaseException) -> RankLost | None:
        """Whether an error only says that another process is gone, which may become known a moment later."""
        if isinstance(error, GPOError) or not any(word in str(error).lower() for word in _LOST_LINK):
            return None
        self._noticed.wait(4 * _LOOK_SECONDS)
        return self.lost

    def _run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            found = self._look()
            if found is None:
                continue
            self.lost = RankLost(f"{found} {_GO_ON}")
            self._noticed.set()
            if not self._over.wait(self.patience):
                self._force()
            return

    def _look(self) -> str | None:
        if self.starter is not None and self.starter.gone:
            return f"{self.starter.name} (process {self.starter.pid}) is gone, so this rank ends as well."
        for rank, child in enumerate(self.children(), self.first_rank + 1):
            status = child.poll()
            if status:
                return f"Rank {rank} (process {child.pid}) {_how(status)}, so the others end as well."
        return None

    def _force(self) -> None:
        """This process hangs where no exception reaches it."""
        print(f"gpo: {self.lost}", file=sys.stderr, flush=True)
        self._end_children()
        try:
            self.last_resort()
        finally:
            os._exit(1)

    def _end_children(self) -> None:
        """They wait for a rank that is gone. Give those time that have noticed by themselves."""
        end = monotonic() + self.patience / 2
        for child in self.children():
            while child.poll() is None and monotonic() < end:
                threading.Event().wait(0.1)
            child.kill()
            with suppress(TimeoutExpired):
                child.wait(self.patience)


def _how(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}; its own message is above"
