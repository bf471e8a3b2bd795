"""Generation by vLLM in a process of its own: one path for CPU and GPU, weights handed over as adapter files.

vLLM is imported only when the engine starts, and nothing else in the package imports it.
"""

import itertools
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
from gpo_lightning.engines.sampling import StopText
from gpo_lightning.engines.vllm_weights import (
    Form,
    Sync,
    WeightFolders,
    choose_form,
    served_rank,
    serves_adapters,
    weight_bytes,
)
from gpo_lightning.engines.without_main import without_main
from gpo_lightning.errors import ConfigError, EngineDied, EngineError
from gpo_lightning.leftovers import own_folder
from gpo_lightning.loopback import on_loopback
from gpo_lightning.policy.adapters import largest_rank

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig

_ADAPTER_NAME = "policy"
_KEEP_MEMORY = {
    # glibc otherwise hands every large tensor back to the system, and faults it in again page by page.
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
CPU_BLOCK = 32  # vLLM's CPU default of 128 would never reuse prefixes shorter than that.


class VLLM(Engine):
    """One vLLM engine for this process's policy; under DDP every rank has its own.

    Args:
        memory_gib: memory of the key-value cache on CPU, in GiB.
        gpu_memory: share of GPU memory the engine may take, weights and cache together (GPU only).
        sleep: give GPU memory back while the trainer trains (GPU only).
        context: most tokens of prefix and continuation; ``null`` takes what the problems and ``data.sampling`` ask for.
        eager: skip compilation and CUDA graphs: starts in seconds, generates slower on a GPU.
        sync: how new weights reach vLLM: ``adapter`` as LoRA files, ``merged`` as a whole model, ``auto`` as an adapter
            where vLLM can serve it.
        options: further arguments of vLLM's ``EngineArgs``, given as they are.
    """

    def __init__(
        self,
        memory_gib: float = 1.0,
        gpu_memory: float = 0.35,
        sleep: bool = True,
        context: int | None = None,
        eager: bool = False,
        sync: Sync = "auto",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.memory_gib, self.gpu_memory, self.sleep = memory_gib, gpu_memory, sleep
        self.context, self.eager, self.options = context, eager, options or {}
        self.how: Sync = sync
        self._engine: Any = None
        self._guard: KillOnParentDeath | None = None
        self._lora: Any = None
        self._requests: dict[str, tuple[int, Request]] = {}
        self._handles = itertools.count()
        self._stop_ids: list[int] = []
        self._tokenizer: Any = None
        self._looked_at: dict[str, int] = {}
        self.form: Form = "merged"
        """In which form weights reach vLLM; known once it has started."""
        self._folders = WeightFolders()

    @property
    def capabilities(self) -> Capabilities:
        running = self._running()
        slots = int(running.vllm_config.scheduler_config.max_num_seqs)
        return Capabilities("vllm", int(running.model_config.max_model_len), reproducible=False, slots=slots)

    def check_policy(self, config: "PolicyConfig") -> None:
        choose_form(config, self.how)

    def start(self, policy: "Policy", seed: int = 0) -> None:
        if self._engine is not None:
            return
        self.form = choose_form(policy.config, self.how)
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise ConfigError(
                f"data.engine: vLLM cannot be imported ({error}). Install the extra for your machine, "
                "`pip install 'gpo-lightning[vllm]'` (GPU) or `make setup` (CPU), or choose "
                "`--data.engine gpo_lightning.engines.Transformers`."
            ) from error
        self._stop_ids, self._tokenizer = list(policy.eos_ids), policy.tokenizer
        architectures = policy.causal_lm.config.architectures or [type(policy.causal_lm).__name__]
        if self.form == "adapter" and not serves_adapters(architectures):
            if self.how == "adapter":
                raise ConfigError(
                    f"data.engine.sync is adapter, but vLLM takes none for {architectures[0]}. Set it to auto."
                )
            self.form = "merged"
        settings = self._settings(policy, seed)
        # vLLM's own processes wait for the next request of a client that was killed, or go on loading.
        self._guard = KillOnParentDeath()
        sockets = {"VLLM_RPC_BASE_PATH": str(own_folder("gpo-sockets"))}
        spread = self.options.get("distributed_executor_backend") == "ray" or self.options.get("nnodes", 1) > 1
        try:
            environment = _environment(child_environment(spread) | sockets | self._guard.environment)
            with environment, without_main(), _start_failures(policy.config.base):
                self._engine = LLMEngine.from_engine_args(EngineArgs(**settings), enable_multiprocessing=True)
        except BaseException:
            self._end_processes()
            raise

    def _settings(self, policy: "Policy", seed: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "model": policy.engine_directory,
            "skip_tokenizer_init": True,
            "dtype": str(policy.config.torch_dtype).removeprefix("torch."),
            "seed": seed,
            "max_model_len": self.context or min(policy.context, self.longest or policy.context),
            "revision": policy.config.revision if policy.engine_directory == policy.directory else None,
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",
            "disable_log_stats": True,
            "trust_remote_code": policy.config.trust_remote_code,
        }
        if torch.cuda.is_available():
            settings |= {
                "gpu_memory_utilization": self.gpu_memory,
                "enable_sleep_mode": self.sleep,
                "enforce_eager": self.eager,
            }
        else:
            # LoRA on CPU runs eagerly in any case, and compiling takes minutes.
            settings |= {
                "block_size": CPU_BLOCK,
                "kv_cache_memory_bytes": int(self.memory_gib * 2**30),
                "enforce_eager": True,
            }
        if policy.lora is not None and self.form == "adapter":
            rank = served_rank(largest_rank(policy.lora))
            settings |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        return settings | self.options

    def submit(self, request: Request) -> int:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        handle = next(self._handles)
        name = str(handle)
        sampling = request.sampling
        parameters = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=[*self._stop_ids, *sampling.stop_token_ids],
            # vLLM has no tokenizer here, so what it draws is looked at as it comes, where a text may end it.
            output_kind=RequestOutputKind.CUMULATIVE if sampling.stop else RequestOutputKind.FINAL_ONLY,
        )
        with _engine_failures():
            # vLLM may append to the name it was given; the name it returns is the one it reports.
            self._running().add_request(
                name, {"prompt_token_ids": list(request.prefix)}, parameters, lora_request=self._lora
            )
        self._requests[name] = (handle, request)
        return handle

    def poll(self) -> list[Completion]:
        finished: list[Completion] = []
        while self._requests and not finished:
            with _engine_failures():
                outputs = self._running().step()
            self.sign_of_life = monotonic()
            made = [self._finished(output) for output in outputs if output.request_id in self._requests]
            finished = [completion for completion in made if completion is not None]
        return finished

    def _finished(self, output: Any) -> Completion | None:
        """The continuation, if it has ended: by vLLM's account, or by a text that vLLM knows nothing of."""
        handle, request = self._requests[output.request_id]
        result, stopped = output.outputs[0], self._stopped(output.request_id, output.outputs[0].token_ids)
        if stopped is None and not output.finished:
            return None
        if not output.finished:
            self._running().abort_request([output.request_id])
        del self._requests[output.request_id]
        self._looked_at.pop(output.request_id, None)
        starts = result.logprobs.start_indices[:stopped]
        completion = Completion(
            handle=handle,
            tokens=tuple(result.token_ids[:stopped]),
            logprobs=tuple(result.logprobs.logprobs[start] for start in starts),
            truncated=result.finish_reason == "length" and stopped is None,
            cached=output.num_cached_tokens or 0,
        )
        self.ledger.book(request, completion)
        return completion

    def _stopped(self, name: str, tokens: Sequence[int]) -> int | None:
        """Tokens up to the first stop text, if one is there."""
        request = self._requests[name][1]
        if not request.sampling.stop:
            return None
        text, first = StopText(self._tokenizer, request.sampling.stop), self._looked_at.get(name, 0) + 1
        self._looked_at[name] = len(tokens)
        return next((end for end in range(first, len(tokens) + 1) if text.ends(tokens[:end])), None)

    def cancel(self, handle: int) -> None:
        self._looked_at.pop(str(handle), None)
        if self._requests.pop(str(handle), None) is not None:
            self._running().abort_request([str(handle)])

    def sync(self, policy: "Policy", version: int) -> None:
        if self._requests:
            raise EngineError(f"Weights cannot change while {len(self._requests)} requests are in flight.")
        engine = self._running()
        folder, previous = self._folders.fresh(weight_bytes(policy, self.form))
        try:
            with _engine_failures():
                if self.form == "merged":
                    policy.export_merged(folder)
                    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
                else:
                    self._load_adapter(policy, folder, version)
                # vLLM keeps cached prefixes of the old weights unless told otherwise.
                if not engine.reset_prefix_cache():
                    raise EngineError("vLLM did not drop its prefix cache; rollouts would mix old and new weights.")
        finally:
            if previous is not None:
                shutil.rmtree(previous, ignore_errors=True)
        self.version = version

    def _load_adapter(self, policy: "Policy", directory: Path, version: int) -> None:
        """Load under a new path, then ask by a request that does not load again on every step."""
        from vllm.lora.request import LoRARequest

        policy.export_adapter(directory)
        # The name enters the key of the prefix cache, the id names the slot in the engine.
        name = f"{_ADAPTER_NAME}-{version}"
        if not self._running().add_lora(LoRARequest(name, 1, str(directory), load_inplace=True)):
            raise EngineError(f"vLLM refused the adapter of version {version}; its log above says why.")
        self._lora = LoRARequest(name, 1, str(directory))

    def offload(self) -> None:
        if self._sleeps():
            # Level 1 keeps the base weights in host memory, for they are not sent again.
            self._running().sleep(1)

    def onload(self) -> None:
        if self._sleeps() and self._running().is_sleeping():
            self._running().wake_up()

    def _sleeps(self) -> bool:
        return self._engine is not None and torch.cuda.is_available() and self.sleep and not self.beside_training

    def alive(self) -> bool:
        engine = self._engine
        return engine is None or all(process.is_alive() for process in _processes(engine))

    def kill(self) -> None:
        if self._guard is not None:
            self._guard.kill()
        engine = self._engine
        if engine is None:
            return
        from vllm.v1.engine.exceptions import EngineDeadError

        # vLLM's client waits without end for a process that was killed.
        core = engine.engine_core
        core.resources.engine_dead = True
        core.outputs_queue.put_nowait(EngineDeadError())
        for future in list(core.utility_results.values()):
            if not future.done():
                future.set_exception(EngineDeadError())

    def shutdown(self) -> None:
        self._requests.clear()
        self._looked_at.clear()
        self._lora = None
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()
        self._end_processes()
        self._folders.remove()

    def _end_processes(self) -> None:
        """What the engine's own shutdown left, such as workers that are stopped."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.revoke()

    def _running(self) -> Any:
        if self._engine is None:
            raise EngineError("The vLLM engine was used before it was started.")
        return self._engine


def _processes(engine: Any) -> list[Any]:
    return list(engine.engine_core.resources.engine_manager.processes)


def child_environment(spread: bool = False) -> dict[str, str]:
    """Settings the engine's processes read when they start.

    Args:
        spread: over several machines, which cannot meet on loopback.
    """
    settings = {
        # Forking a process that already runs OpenMP threads can hang the child.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if not spread:
        settings |= {"VLLM_HOST_IP": "127.0.0.1"} | on_loopback()
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    if torch.cuda.is_available():
        if ranks > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            settings["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank] if visible else str(rank)
    else:
        cores = sorted(os.sched_getaffinity(0))
        share = cores[rank::ranks] or cores
        settings.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, share)))
        settings["VLLM_CPU_CI_ENV"] = "1"
        settings |= _KEEP_MEMORY
    return settings


@contextmanager
def _environment(settings: dict[str, str]) -> Generator[None]:
    """Environment variables for the processes started within."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _start_failures(base: str) -> Generator[None]:
    elsewhere = "or choose `--data.engine gpo_lightning.engines.Transformers`."
    try:
        yield
    except (TypeError, ValueError) as error:  # of an option, or of a model that vLLM has no class for
        raise ConfigError(
            f"data.engine: vLLM cannot serve model.policy.base={base!r} with these settings: {error}\nChange "
            f"data.engine.init_args.options, {elsewhere}"
        ) from error
    except RuntimeError as error:  # of its processes, whose reason is in their log
        raise EngineDied(
            f"vLLM did not start with model.policy.base={base!r}; its own log above says why (VLLM_LOGGING_LEVEL=INFO "
            "for more). Too little memory is the usual cause: lower data.engine.init_args.memory_gib (CPU) or "
            f"gpu_memory (GPU), {elsewhere}"
        ) from error


@contextmanager
def _engine_failures() -> Generator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDied(
            "The vLLM engine process died. Its own log above says why (set VLLM_LOGGING_LEVEL=INFO for more); "
            "out of memory is the usual cause: lower data.engine.init_args.memory_gib (CPU) or gpu_memory (GPU)."
        ) from error
