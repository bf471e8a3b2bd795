"""One choice makes instruction, worked examples, reference solutions and grader."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import GSM8K, Chat, Message, Plain, Problem
from gpo_lightning.problems.prompt_styles import Prompting
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.problems.question import request, written
from gpo_lightning.rewards import Boxed, Marked, Phrase, Tagged, Whole
from gpo_lightning.rewards.formats import AnswerFormat

FORMATS: list[AnswerFormat] = [Boxed(), Phrase(), Marked(), Marked("####"), Tagged(), Phrase("my answer is")]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for split, first in (("train", 0), ("test", 10)):
        rows = [
            {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = <<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
            for n in range(first, first + 4)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


@pytest.mark.parametrize("answer", FORMATS, ids=repr)
@pytest.mark.parametrize("style", [Chat, Plain])
def test_instruction_solution_and_grader_follow_from_one_choice(
    folder: str, style: type[Chat] | type[Plain], answer: AnswerFormat
) -> None:
    source = GSM8K(folder, style(shots=1, answer=answer))
    problem = source.train()[2]
    shown = problem.prompt or "\n".join(turn.content for turn in problem.messages)
    assert request(answer, "the final answer") in shown
    assert written(answer, "1") in shown, "the worked example answers as the question shall be answered"
    assert source.grade(problem, str(problem.solution)).reward == 1.0
    assert source.grade(problem, written(answer, "99")).reward == 0.0
    others = [form for form in FORMATS if form != answer]
    assert all(source.grade(problem, written(other, problem.answer)).reason == "unparsed" for other in others)


def test_zero_shot_chat_is_one_turn_and_a_system_turn_stands_before_it(folder: str) -> None:
    asked = "What is 10 + 1?\n\nThink step by step. Put the final answer in \\boxed{}."
    assert GSM8K(folder).heldout()[0].messages == (Message("user", asked),)
    system, user = GSM8K(folder, Chat(system="Be brief.")).heldout()[0].messages
    assert (system, user.content) == (Message("system", "Be brief."), asked)


def test_chat_examples_are_turns_of_user_and_assistant(folder: str) -> None:
    messages = GSM8K(folder, Chat(shots=2)).heldout()[0].messages
    assert [turn.role for turn in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[1].content == "0 + 1 = 1\n\\boxed{1}"


def test_plain_text_is_a_preface_examples_and_the_beginning_of_an_answer(folder: str) -> None:
    problem = GSM8K(folder, Plain(shots=1, answer=Phrase(), preface="")).heldout()[0]
    assert problem.prompt == (
        "Question: What is 0 + 1?\nAnswer: 0 + 1 = 1\nThe answer is 1.\n\nQuestion: What is 10 + 1?\nAnswer:"
    )


@pytest.mark.parametrize("style", [Chat(shots=3), Plain(shots=3)])
def test_a_problem_is_no_example_for_itself(folder: str, style: Prompting) -> None:
    for problem in GSM8K(folder, style).train():
        shown = problem.prompt or "\n".join(turn.content for turn in problem.messages)
        assert shown.count(problem.metadata["question"]) == 1
        assert shown.count("What is") == 4


def test_more_examples_than_there_are_is_an_error(folder: str) -> None:
    assert len(GSM8K(folder, Chat(shots=4)).heldout()) == 4
    with pytest.raises(ConfigError, match=r"shots is 5, but gsm8k has only 4"):
        GSM8K(folder, Chat(shots=5)).heldout()


def test_prompts_are_the_same_every_time(folder: str) -> None:
    assert GSM8K(folder, Chat(shots=2)).train() == GSM8K(folder, Chat(shots=2)).train()


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="shots is -1"):
        Chat(shots=-1)
    with pytest.raises(ConfigError, match=r"template must contain \{question\}"):
        Plain(template="Answer:")
    with pytest.raises(ConfigError, match=r"answer is Whole.*choose Boxed"):
        request(Whole(), "the final answer")


def test_options_reach_the_chat_template() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}{% if enable_thinking %}1{% else %}2{% endif %}"
    turns = (Message("user", "a"),)
    assert tokenizer.decode(encode_prompt(Problem("p", "t", "0", messages=turns), tokenizer)) == "a2"
    thinking = Problem("p", "t", "0", messages=turns, template_options={"enable_thinking": True})
    assert tokenizer.decode(encode_prompt(thinking, tokenizer)) == "a1"


@given(st.integers(-(10**6), 10**6), st.sampled_from(FORMATS))
def test_what_is_written_in_a_format_is_read_back(number: int, form: AnswerFormat) -> None:
    assert form.find(written(form, str(number))) == str(number)
