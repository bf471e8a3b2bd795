"""Warm starts of `tiny`: taught by a careless author, found by name, and refused where there is none."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.exact import exact_success
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded import resolve_base
from gpo_lightning.policy.embedded.resolve import WEIGHTS
from gpo_lightning.policy.embedded.warm_start import LEVELS, Lesson, lessons, slip_rate, teach, warm_start_names
from gpo_lightning.problems import CarryAddition, Parities


def test_an_author_slips_as_often_as_leaves_the_wanted_share_right() -> None:
    assert slip_rate(Parities(steps=4), 0.5**4) == pytest.approx(0.5, abs=1e-6)
    sums = CarryAddition(steps=6)
    rate = slip_rate(sums, 0.3)
    chances = [sums.chances(str(its.prompt)) for its in sums.train()]
    assert sum((1 - rate) ** count for count in chances) / len(chances) == pytest.approx(0.3, abs=0.03)


def test_a_few_lessons_make_a_policy_right_in_form_and_more_often_right(caplog: pytest.LogCaptureFixture) -> None:
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS)
    source = Parities(steps=2, largest=1, heldout_size=1, train_size=1)
    policy = Policy(PolicyConfig(base="tiny", dtype="float32"))
    before = float(exact_success(policy, source, [source.problem("a1b0?\n")]))
    teach(model, Lesson(Parities(steps=2), updates=40, rate=3e-3), success=0.9)
    policy.causal_lm.load_state_dict(model.state_dict())
    after = float(exact_success(policy, source, [source.problem("a1b0?\n")]))
    assert before < 0.01
    assert after > 0.1
    assert [each.getMessage() for each in caplog.records][-2:] == ["Taught 32 of 40 steps.", "Taught 40 of 40 steps."]


def test_a_warm_start_is_found_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPO_CACHE", str(tmp_path))
    (tmp_path / "tiny-ledger-30-v1").mkdir()
    assert resolve_base("tiny:ledger-30") == str(tmp_path / "tiny-ledger-30-v1")


def test_a_name_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no tiny:ledger-7; there are: .*ledger-8"):
        resolve_base("tiny:ledger-7")
    assert len(warm_start_names()) == len(lessons()) * len(LEVELS)
