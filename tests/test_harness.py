"""lm-eval's tasks over our engine: the same questions, and what it makes of our answers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.evaluation.harness import EngineModel, cross_check
from gpo_lightning.evaluation.success import problem_rewards
from gpo_lightning.policy import Policy
from gpo_lightning.problems import ModularChains

SOURCE = ModularChains(steps=4, heldout_size=12)
TASK: dict[str, Any] = {
    "task": "chains",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "target_delimiter": "",
    "generation_kwargs": {"until": ["?"], "max_gen_toks": 60},
    "filter_list": [
        {"name": "marked", "filter": [{"function": "regex", "regex_pattern": "#(\\d+)"}, {"function": "take_first"}]}
    ],
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture
def model(tiny_policy: Policy) -> EngineModel:
    engine = Transformers()
    tiny_policy.eval()
    engine.start(tiny_policy)
    return EngineModel(tiny_policy, engine)


def ask(*args: Any) -> Any:
    return SimpleNamespace(args=args)


def test_a_response_ends_before_the_first_stop_string(model: EngineModel) -> None:
    prompt = SOURCE.heldout()[0].prompt
    whole, short = model.generate_until(
        [ask(prompt, {"max_gen_toks": 40}), ask(prompt, {"max_gen_toks": 40, "until": ["\n"]})]
    )
    assert short == whole.split("\n")[0]
    assert "\n" in whole


def test_a_continuation_has_the_policys_log_probability(model: EngineModel) -> None:
    prompt = str(SOURCE.heldout()[0].prompt)
    text = model.generate_until([ask(prompt, {"max_gen_toks": 20})])[0]
    context, rest = prompt + text[0], text[1:]
    (likely, greedy), (unlikely, chosen) = model.loglikelihood([ask(context, rest), ask(context, "b" + rest[1:])])
    tokens, start = model.tokenizer.encode(context + rest), len(model.tokenizer.encode(context))
    with torch.no_grad():
        logprobs = model.policy.causal_lm(torch.tensor([tokens])).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[i - 1, tokens[i]]) for i in range(start, len(tokens)))
    assert likely == pytest.approx(expected, abs=1e-3)
    assert greedy
    assert unlikely < likely
    assert not chosen


def test_a_long_text_is_scored_window_by_window(model: EngineModel) -> None:
    text = str(SOURCE.heldout()[0].solution)
    (whole,) = model.loglikelihood_rolling([ask(text)])
    assert whole < 0
    longest = model.engine.capabilities.context
    assert model.loglikelihood_rolling([ask(text * (1 + longest // len(text)))])[0] < whole


def test_its_figure_is_ours_where_it_reads_answers_as_we_do(model: EngineModel, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra lm-eval)")
    problems = SOURCE.heldout()
    data = tmp_path / "chains.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": p.prompt, "answer": p.answer}) for p in problems))
    task = TASK | {"dataset_kwargs": {"data_files": {"test": str(data)}}}
    (tmp_path / "chains.yaml").write_text(yaml.safe_dump(task))
    found = cross_check(model.policy, model.engine, ["chains"], tmp_path)
    trees, _ = respond(model.engine, model.tokenizer, SOURCE, problems, Sampling(60, 0.0), samples=1, seed=0)
    assert found["chains"]["exact_match,marked"] == pytest.approx(float(problem_rewards(trees).mean()))
