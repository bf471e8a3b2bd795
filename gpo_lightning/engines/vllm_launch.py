"""`vllm serve` as we need it: its flags, and the process where it is ours to start and end."""

import os
import secrets
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
from gpo_lightning.engines.vllm import CPU_BLOCK, child_environment
from gpo_lightning.engines.vllm_weights import served_rank
from gpo_lightning.policy.adapters import largest_rank

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy

NEEDED_VARIABLE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_KEY_VARIABLE = "VLLM_API_KEY"
NEEDED_FLAGS = (
    "--enable-lora",
    "--max-loras",
    "1",
    "--logprobs-mode",
    "processed_logprobs",
    "--enable-prompt-tokens-details",
    "--generation-config",
    "vllm",
)
"""What every server of ours is started with, whoever starts it; ``--max-lora-rank`` depends on the adapter."""

# The kernel ends the server when the process that started it is gone, however it went.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class Launch:
    """A server that is started on this machine, on loopback, and ends with the run.

    Args:
        memory_gib: memory of the key-value cache on CPU, in GiB.
        gpu_memory: share of GPU memory it may take, weights and cache together (GPU only).
        context: most tokens of prefix and continuation; ``null`` takes what the problems and ``data.sampling`` ask for.
        eager: skip compilation and CUDA graphs: starts in seconds, generates slower on a GPU.
        options: further flags of ``vllm serve``, given as they are.
        log: file of its output.
        port: where it listens; 0 takes a free one.
        seconds: it may take until it answers.
    """

    memory_gib: float = 1.0
    gpu_memory: float = 0.35
    context: int | None = None
    eager: bool = False
    options: list[str] = field(default_factory=list[str])
    log: Path = Path("vllm-server.log")
    port: int = 0
    seconds: float = 900.0

    def flags(self, policy: "Policy", port: int, seed: int = 0, longest: int | None = None) -> list[str]:
        """Of ``vllm serve MODEL``, for a policy and prompts with responses of up to ``longest`` tokens."""
        flags = ["--host", "127.0.0.1", "--port", str(port), *NEEDED_FLAGS]
        if policy.lora is not None:
            flags += ["--max-lora-rank", str(served_rank(largest_rank(policy.lora)))]
        flags += ["--dtype", str(policy.config.torch_dtype).removeprefix("torch."), "--seed", str(seed)]
        flags += ["--max-model-len", str(self.context or min(policy.context, longest or policy.context))]
        if torch.cuda.is_available():
            flags += ["--gpu-memory-utilization", str(self.gpu_memory), *(["--enforce-eager"] if self.eager else [])]
        else:
            memory = str(int(self.memory_gib * 2**30))
            flags += ["--block-size", str(CPU_BLOCK), "--kv-cache-memory-bytes", memory, "--enforce-eager"]
        if policy.config.trust_remote_code:
            flags += ["--trust-remote-code"]
        if policy.config.revision is not None and policy.engine_directory == policy.directory:
            flags += ["--revision", policy.config.revision]
        return flags + self.options

    def start(self, policy: "Policy", seed: int = 0, longest: int | None = None) -> "Child":
        port = self.port or _free_port()
        # By module, for the CPU build of vLLM has no working `vllm` command.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", policy.engine_directory]
        child = Child([*command, *self.flags(policy, port, seed, longest)], f"http://127.0.0.1:{port}", self.log)
        child.ensure_running()
        return child


class Child:
    """The process of a server that is ours.

    Args:
        command: program and arguments.
        url: where it will listen.
        log: file of its output, appended to.
    """

    def __init__(self, command: list[str], url: str, log: Path) -> None:
        self.command, self.url, self.log = command, url, log
        self.key = os.environ.get(_KEY_VARIABLE) or secrets.token_urlsafe(32)
        """Without it the server answers nobody: other users of the machine could have it load adapters of theirs."""
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: KillOnParentDeath | None = None

    def ensure_running(self) -> None:
        """Start it, if it is not there."""
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        self._guard = KillOnParentDeath()
        spread = any(flag == "ray" or flag.startswith("--nnodes") for flag in self.command)
        environment = os.environ | child_environment(spread) | self._guard.environment
        environment |= {NEEDED_VARIABLE: "1", _KEY_VARIABLE: self.key}
        guarded = [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), *self.command]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                guarded, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def ended(self) -> str | None:
        """How it ended by itself, or ``None`` while it runs."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"the vLLM server ended with status {self._process.returncode}; {self.log} says why."

    def kill(self) -> None:
        """End it and all it started at once; from any thread."""
        if self._guard is not None:
            self._guard.kill()

    def end(self, seconds: float = 15.0) -> None:
        """End it and all it started. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # Its engine processes outlive a server that was killed.
        if self._guard is not None:
            self._guard.kill()
            self._guard.revoke()
            self._guard = None
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
