"""A reward model: a sequence classifier of the hub, or of a directory, that scores prompt and response together."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from gpo_lightning.errors import ConfigError


class SequenceClassifier:
    """The score a reward model gives each response. The model is loaded when it is first asked.

    ``data.rewards: OWNER/MODEL``, or the path of a directory, is one with these defaults. Chat messages go through the
    model's own chat template, plain prompts stand before the response as they are. Scores may be any number, so say
    what counts as success: ``Rewards(["owner/model", my_check], success="my_check")``.

    Args:
        model: hub id or directory.
        label: index of the label whose probability is the reward, for a model with several; one with a single output
            gives that as it is.
        batch_size: responses that go through the model together.
        device: ``null`` takes the GPU, where there is one.
        max_length: most tokens of prompt and response; what is longer loses its beginning. ``null`` takes the model's.
        deadline: seconds for all responses that finish together.
        trust_remote_code: run code that comes with the model.
    """

    def __init__(
        self,
        model: str,
        label: int | None = None,
        batch_size: int = 16,
        device: str | None = None,
        max_length: int | None = None,
        deadline: float = 3600.0,
        trust_remote_code: bool = False,
    ) -> None:
        self.model, self.label, self.batch_size = str(model), label, batch_size
        self.device = device
        self.max_length, self.deadline, self.trust_remote_code = max_length, deadline, trust_remote_code
        self.__name__ = self.model.rstrip("/").rpartition("/")[2]

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
        """``[N]`` scores."""
        # Imported where a model is used: grader processes import this room, and must stay light.
        import torch

        with torch.no_grad():
            return self._scores(prompts, completions)

    def _scores(self, prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
        classifier, tokenizer = self._loaded
        texts = [self._text(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        scores: list[float] = []
        for first in range(0, len(texts), self.batch_size):
            batch = tokenizer(
                texts[first : first + self.batch_size],
                return_tensors="pt",
                padding=True,
                truncation=self._longest is not None,
                max_length=self._longest,
                # A chat template writes these tokens itself.
                add_special_tokens=not isinstance(prompts[first], list),
            ).to(classifier.device)
            logits = classifier(**batch).logits.float()  # [B, labels]
            chosen = logits[:, 0] if self.label is None else logits.softmax(-1)[:, self.label]
            scores += chosen.tolist()
        return scores

    def _text(self, prompt: Any, completion: str) -> str:
        if not isinstance(prompt, list):
            return f"{prompt}{completion}"
        messages = [*cast(list[Any], prompt), {"role": "assistant", "content": completion}]
        return str(self._loaded[1].apply_chat_template(messages, tokenize=False))

    @property
    def _longest(self) -> int | None:
        longest = getattr(self._loaded[0].config, "max_position_embeddings", None)
        return self.max_length or longest

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer.

        Raises:
            ConfigError: they cannot be loaded, weights are missing, or the label is not one of the model's.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        from gpo_lightning.saved_tokenizer import read_tokenizer

        trust = self.trust_remote_code
        try:
            tokenizer: Any = read_tokenizer(self.model, trust_remote_code=trust)
            loader: Any = AutoModelForSequenceClassification
            model, loaded = loader.from_pretrained(self.model, trust_remote_code=trust, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"data.rewards: {self.model!r} cannot be loaded as a sequence classifier: {error}"
            ) from error
        if missing := sorted(loaded["missing_keys"]):
            raise ConfigError(
                f"data.rewards: {self.model!r} is no sequence classifier: it has no {', '.join(missing[:3])}, which "
                "would be drawn at random. Name a reward model, trained as one."
            )
        labels = int(model.config.num_labels)
        if (labels > 1) != (self.label is not None) or not 0 <= (self.label or 0) < labels:
            raise ConfigError(
                f"data.rewards: {self.model!r} has {labels} labels ({model.config.id2label}), and label is "
                f"{self.label}. Give SequenceClassifier(model, label=...) the index of the label that is good, or none "
                "where there is only one."
            )
        tokenizer.truncation_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return model.to(device).eval(), tokenizer
