"""Every prompt is encoded once before anything is generated: a bad row is found at the start, not when it is drawn."""

import logging
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem, named
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

_log = logging.getLogger(__name__)


class PromptCheck:
    """Checks lists of problems, each list once.

    Args:
        tokenizer: of the policy.
        context: most tokens of prompt and response.
        vocabulary: tokens that the base model has embeddings for; its tokenizer may know more.
        solutions: check reference solutions too, which the loss reads.
    """

    def __init__(self, tokenizer: Tokenizer, context: int, vocabulary: int, solutions: bool = False) -> None:
        self.tokenizer, self.context, self.vocabulary, self.solutions = tokenizer, context, vocabulary, solutions
        self._lists: dict[int, tuple[Sequence[Problem], int]] = {}

    def longest(self, asked: Iterable[tuple[Sequence[Problem], int]]) -> int:
        """Most tokens of prompt and response together, no more than the context.

        Args:
            asked: lists of problems, and the most tokens of a response to them.

        Raises:
            ConfigError: a prompt that cannot be encoded; the first is named with its row and what to do, the others
                are counted.
        """
        return min(max((self._width(problems) + tokens for problems, tokens in asked), default=1), self.context)

    def _width(self, problems: Sequence[Problem]) -> int:
        """Tokens of the longest prompt that leaves room for a response."""
        known = self._lists.get(id(problems))
        if known is None:
            # The list is kept, so that no other one can be taken for it.
            known = self._lists[id(problems)] = (problems, self._measure(problems))
        return known[1]

    def _measure(self, problems: Sequence[Problem]) -> int:
        lengths: list[int] = []
        wrong: list[ConfigError] = []
        for problem in problems:
            try:
                prompt = encode_prompt(problem, self.tokenizer)
                lengths.append(len(prompt))
                self._check_known(problem, prompt)
                if self.solutions:
                    self._check_known(problem, encode_solution(problem, self.tokenizer, (0,)) or ())
            except ConfigError as error:
                wrong.append(error)
        if wrong:
            others = f" The same is wrong with {len(wrong) - 1} others." if len(wrong) > 1 else ""
            raise ConfigError(f"{wrong[0]}{others}") from wrong[0]
        long = [i for i, length in enumerate(lengths) if length >= self.context]
        if long:
            _log.warning(
                "%d of %d prompts leave no room for a response in the %d tokens of the policy's context and will be "
                "passed over; the first is %s with %d tokens.",
                *(len(long), len(problems), self.context, named(problems[long[0]]), lengths[long[0]]),
            )
        return max((length for length in lengths if length < self.context), default=0)

    def _check_known(self, problem: Problem, tokens: Sequence[int]) -> None:
        unknown = next((token for token in tokens if token >= self.vocabulary), None)
        if unknown is not None:
            raise ConfigError(
                f"model.policy.base: the tokenizer writes {self.tokenizer.convert_ids_to_tokens(unknown)!r} of "
                f"{named(problem)} as token {unknown}, and the model has embeddings for {self.vocabulary} tokens "
                "alone. Its tokenizer is another model's, or was given tokens that the model was not."
            )
