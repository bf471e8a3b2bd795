"""Reward functions, weighed and added up, in the role of a grader."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.function import Incident, RewardFunction, Score, load
from gpo_lightning.rewards.grader import Case, Grade, Grader

_log = logging.getLogger(__name__)
_MOST_NAMED = 5
_LEAST_FAILURES = 8
_LEAST_TIMEOUTS = 3
_MOST_UNGRADED = 256
_ROUNDING = 1e-9
_TURNS = "string indices must be integers"

if TYPE_CHECKING:
    Function = str | Grader | Callable[..., Any]
    Functions = Function | Sequence[Function] | Mapping[Any, float]
    Success = float | str | Callable[..., Any] | None
else:  # what the command line asks for
    Functions = str | list[str] | dict[str, float]
    Success = float | str | None


class Rewards(Grader):
    """The weighted sum of reward functions, each of which may also be a grader.

    A function gets what it has parameters for: ``prompt``, ``completion``, ``completion_ids``, ``answer``, ``id`` and
    every column of the row. It returns a finite number, or ``None`` where it does not apply.

    >>> def short(completion, **columns):
    ...     return -len(completion) / 10
    >>> def right(completion, answer, **columns):
    ...     return answer in completion
    >>> grade = Rewards({right: 1.0, short: 0.5}, success="right").grade("It is 4.", "4", {})
    >>> grade.reward, grade.success, grade.parts
    (0.6, 1.0, {'right': 1.0, 'short': -0.8})

    Args:
        functions: by dotted path (``my_module.my_reward``): one, several, or several with weights; a hub id or a
            directory names a reward model (:class:`SequenceClassifier`). In Python also the functions themselves,
            instances of classes with ``__call__``, and graders.
        success: what counts as success where rewards lie outside [0, 1]: the least reward that does, the name of one
            of the functions, or another function of [0, 1].
        deadline: seconds for one call of a function.
    """

    def __init__(self, functions: Functions, success: Success = None, deadline: float = 60.0) -> None:
        self.functions, self.success, self.deadline = functions, success, deadline
        weighted = _weighted(functions)
        if not weighted:
            raise ConfigError("data.rewards names no function.")
        self.weights: dict[str, float] = {}
        self._judges: dict[str, _Judge] = {}
        for given, weight in weighted:
            what = load(given) if isinstance(given, str) else given
            name = _free(_name(what), self.weights)
            self.weights[name] = weight
            self._judges[name] = _Judge(what, name, deadline)
        self._judged, self._applied = 0, False
        self._success: _Judge | None = None
        if success is not None and success not in self.weights and not isinstance(success, int | float):
            if isinstance(success, str) and "." not in success:
                raise ConfigError(f"data.rewards.success is {success!r}; there are: {', '.join(self.weights)}.")
            what = load(success) if isinstance(success, str) else success
            self._success = _Judge(what, _name(what), deadline)

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        return self.grade_all([Case(response, answer, metadata)])[0]

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        if not cases:
            return []
        scored = {name: judge.scores(cases) for name, judge in self._judges.items()}
        said = self._success.scores(cases) if self._success else [None] * len(cases)
        verdicts = [verdicts for judge in self._judges.values() if (verdicts := judge.verdicts)]
        grades: list[Grade] = []
        for index, case in enumerate(cases):
            scores = {name: scores[index] for name, scores in scored.items()}
            grades.append(self._sum(case, scores, said[index], verdicts[0][index] if verdicts else None))
        self._check_that_some_apply(grades)
        return grades

    def _check_that_some_apply(self, grades: Sequence[Grade]) -> None:
        """Speak up where nothing was ever graded: most often a function in which ``return`` was forgotten."""
        self._applied |= any(grade.reason != "not_applicable" for grade in grades)
        before, self._judged = self._judged, self._judged + len(grades)
        if self._applied or self._judged < _LEAST_FAILURES:
            return
        names = " and ".join(self.weights)
        said = (
            f"data.rewards: {names} gave None for all {self._judged} responses so far, which leaves them ungraded. A "
            "function without `return` gives None; return a number wherever the reward applies."
        )
        if self._judged >= _MOST_UNGRADED:
            raise ConfigError(said)
        if before < _LEAST_FAILURES:
            _log.warning(said)

    def _sum(self, case: Case, scores: Mapping[str, Score], said: Score, verdict: Grade | None) -> Grade:
        parts = {name: None if isinstance(score, Incident) else score for name, score in scores.items()}
        answer = verdict.answer if verdict else None
        if incident := next((each for each in (*scores.values(), said) if isinstance(each, Incident)), None):
            return Grade(None, incident.kind, answer, parts=parts)
        applicable = {name: value for name, value in parts.items() if value is not None}
        if not applicable:
            return Grade(None, "not_applicable", parts=parts)
        reward = sum(self.weights[name] * value for name, value in applicable.items())
        success = self._successful(case, reward, parts, cast(float | None, said))
        if success is None:
            return Grade(None, "not_applicable", answer, parts=parts)
        word = "right" if success == 1 else "partly" if success else "wrong"
        return Grade(reward, verdict.reason if verdict else word, answer, success, parts)

    def _successful(
        self, case: Case, reward: float, parts: Mapping[str, float | None], said: float | None
    ) -> float | None:
        """The success of a response, in [0, 1].

        Raises:
            ConfigError: it lies outside, or nobody said what success is.
        """
        if isinstance(self.success, str) and self.success in parts:
            said = parts[self.success]
        elif self.success is None:
            said = reward
        elif self._success is None:
            return float(reward >= cast(float, self.success))
        if said is None or -_ROUNDING <= said <= 1 + _ROUNDING:
            return said if said is None else min(1.0, max(0.0, said))
        if self.success is not None:
            raise ConfigError(f"data.rewards.success gave {said:g} for problem {case.id!r}; it must be in [0, 1].")
        names = ", ".join(self.weights)
        raise ConfigError(
            f"data.rewards: {names} gave {reward:g} for problem {case.id!r}. Rewards may be any number, but "
            "outside [0, 1] say what counts as success, which accuracy and critical steps are made of: "
            "the least reward that does, Rewards(..., success=1.0), or "
            f"success={next(iter(self.weights))!r}, the name of one function. In YAML:\n  data.rewards: {{class_path: "
            "gpo_lightning.rewards.Rewards, init_args: {functions: my_module.my_reward, success: 1.0}}"
        )


class _Judge:
    """A function or grader, and how often it has failed."""

    def __init__(self, what: Any, name: str, deadline: float) -> None:
        self.name = name
        self._grader = what if isinstance(what, Grader) else None
        self._function = None if isinstance(what, Grader) else RewardFunction(what, name, deadline)
        self._seen, self._failures, self._named = 0, Counter[str](), 0
        self.verdicts: list[Grade] = []

    def scores(self, cases: Sequence[Case]) -> list[Score]:
        """A score for each case; incidents are named in the log.

        Raises:
            ConfigError: most responses so far ended in an incident.
        """
        if self._grader is not None:
            self.verdicts = self._grader.grade_all(cases)
            return [Incident(v.reason, "") if v.reward is None else v.reward for v in self.verdicts]
        scores = cast(RewardFunction, self._function).scores(cases)
        self._seen += len(scores)
        for case, score in zip(cases, scores, strict=True):
            if isinstance(score, Incident):
                self._failures[score.kind] += 1
                self._tell(case, score)
        self._check(next((score for score in reversed(scores) if isinstance(score, Incident)), None))
        return scores

    def _tell(self, case: Case, incident: Incident) -> None:
        self._named += 1
        if self._named <= _MOST_NAMED:
            _log.warning(
                "Reward %s, problem %s: %s (%s); the response is left ungraded.",
                *(self.name, case.id, incident.detail, incident.kind),
            )

    def _check(self, last: Incident | None) -> None:
        failed, overdue = self._failures.total(), self._failures["reward_timeout"]
        if last is None or 2 * failed <= self._seen:
            return
        if failed >= _LEAST_FAILURES or overdue >= _LEAST_TIMEOUTS:
            turns = " A completion is a text here, not a list of chat turns." if _TURNS in last.detail else ""
            raise ConfigError(
                f"data.rewards: {self.name} failed on {failed} of {self._seen} responses, last with {last.detail}."
                f"{turns} A reward is a finite number, or None where it does not apply. Try the function on a text by "
                "hand."
            )


def as_rewards(rewards: object) -> Grader | None:
    """A grader made of whatever rewards were given.

    Raises:
        ConfigError: they are no rewards.
    """
    if rewards is None or isinstance(rewards, Grader):
        return rewards
    return Rewards(cast(Any, rewards))


def _weighted(functions: Any) -> list[tuple[Any, float]]:
    if isinstance(functions, Mapping):
        weighted = list(cast(Mapping[Any, Any], functions).items())
        if wrong := [
            weight for _, weight in weighted if isinstance(weight, bool) or not isinstance(weight, int | float)
        ]:
            raise ConfigError(
                f"data.rewards: {wrong[0]!r:.60} is no weight. Write {{function: weight}}, as in {{f: 1.0}}."
            )
        return [(function, float(weight)) for function, weight in weighted]
    if isinstance(functions, str) or callable(functions) or not isinstance(functions, Iterable):
        return [(functions, 1.0)]
    return [(function, 1.0) for function in cast(Iterable[Any], functions)]


def _name(what: Any) -> str:
    return str(getattr(what, "__name__", None) or type(what).__name__)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else next(n for i in range(2, 10**6) if (n := f"{name}_{i}") not in taken)
