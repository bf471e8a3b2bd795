"""A cross-check: the tasks of lm-eval, answered by a policy of ours through an engine of ours.

lm-eval (extra ``lm-eval``) is imported only when a check is made, and nothing else in the package knows it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpo_lightning.engines import Engine, Purpose, Request, Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy

_LONGEST_RESPONSE = 256


class EngineModel:
    """What lm-eval asks of a model; each request carries its ``args``.

    Engines know no stop strings: a response is generated to its end and then cut at the first of them, so tokens are
    spent that lm-eval's own models save, and the texts are the same.

    Args:
        policy: scores given continuations.
        engine: generates; started and synced.
    """

    def __init__(self, policy: Policy, engine: Engine) -> None:
        super().__init__()
        self.policy, self.engine = policy, engine
        self.tokenizer: Any = policy.tokenizer

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """The texts that follow contexts; ``args`` is ``(context, options)``."""
        pairs = _args(requests)
        asked = [self._request(self._encode(text), options, seed) for seed, (text, options) in enumerate(pairs)]
        texts = [
            self.tokenizer.decode(completion.tokens, skip_special_tokens=True)
            for completion in self.engine.generate(asked)
        ]
        return [cut(text, options.get("until") or ()) for text, (_, options) in zip(texts, pairs, strict=True)]

    def _request(self, prefix: tuple[int, ...], options: dict[str, Any], seed: int) -> Request:
        most = int(options.get("max_gen_toks", _LONGEST_RESPONSE))
        temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
        until = options.get("until") or ()
        sampling = Sampling(most, temperature, float(options.get("top_p", 1.0)), stop=until)
        room = min(most, self.engine.capabilities.context - len(prefix))
        if room < 1:
            raise ConfigError(f"A prompt of {len(prefix)} tokens does not fit the engine's context; ask fewer shots.")
        return Request(prefix, room, sampling, Purpose.EVALUATION, seed)

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is the greedy one; ``args``: (context, continuation)."""
        pairs = [self._split(*args) for args in _args(requests)]
        greedy = self.engine.generate(
            Request(prefix, len(rest), Sampling(len(rest), 0.0), Purpose.EVALUATION, seed)
            for seed, (prefix, rest) in enumerate(pairs)
        )
        return [
            (self._score(prefix, rest), drawn.tokens == rest)
            for (prefix, rest), drawn in zip(pairs, greedy, strict=True)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Log-probability of whole texts, cut into windows of the context where they are longer; ``args``: (text,)."""
        sums: list[float] = []
        for (text,) in _args(requests):
            tokens, start = self._encode(text), (self.policy.start_id,)
            width = self.engine.capabilities.context - 1
            windows = [tokens[at : at + width] for at in range(0, len(tokens), width)]
            sums.append(sum(self._score(start, window) for window in windows))
        return sums

    def _split(self, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of the context and of the continuation as it is tokenised after it; outer blanks go to the latter."""
        bare = context.rstrip()
        whole, prefix = self._encode(context + continuation), self._encode(bare) if bare else ()
        prefix = prefix or (self.policy.start_id,)
        rest = whole[len(self._encode(bare)) if bare else 0 :]
        return prefix, rest

    @torch.no_grad()
    def _score(self, prefix: tuple[int, ...], rest: tuple[int, ...]) -> float:
        ids = torch.tensor([prefix + rest], device=self.policy.device)
        mask = torch.zeros(ids.shape, device=ids.device)
        mask[:, len(prefix) :] = 1
        return float(self.policy.logprobs(ids, torch.ones_like(ids), mask).sum())

    def _encode(self, text: str) -> tuple[int, ...]:
        """A chat template has written its special tokens already."""
        opened = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        return tuple(self.tokenizer.encode(text, add_special_tokens=not opened))

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        return str(self.tokenizer.chat_template or "") if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )


def _args(requests: Sequence[Any]) -> list[Any]:
    return [request.args for request in requests]


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings.

    >>> cut("It is 4. Q: And 5?", ["Q:", "4"])
    'It is '
    """
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]


def cross_check(
    policy: Policy,
    engine: Engine,
    tasks: Sequence[str],
    folder: Path | None = None,
    limit: int | None = None,
    chat: bool = False,
) -> dict[str, dict[str, Any]]:
    """lm-eval's own figures of a policy, by task.

    Args:
        policy: in evaluation mode.
        engine: started and synced with the policy.
        tasks: names of lm-eval's tasks, or of those in ``folder``.
        folder: task files of your own (YAML); they may name local data files (``dataset_path: json``).
        limit: only the first so many documents of each task; lm-eval draws no subset.
        chat: put prompts through the chat template.
    """
    try:
        from lm_eval.api.model import LM
        from lm_eval.evaluator import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"The cross-check needs `pip install 'gpo-lightning[lm-eval]'` ({error}).") from error
    model: Any = type("EngineLM", (EngineModel, LM), {})(policy, engine)
    manager = TaskManager(include_path=str(folder) if folder else None)
    found: Any = simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        apply_chat_template=chat,
        bootstrap_iters=0,
    )
    return found["results"]
