"""Where a thought ends is told by token ids: in every family, cut anywhere, opened by the prompt or by the response."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gpo_lightning.engines import Sampling, Scripted
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.problems import Problem
from gpo_lightning.problems.problem import Response
from gpo_lightning.problems.rewarded import Rewarded
from gpo_lightning.problems.rows import Rows
from gpo_lightning.problems.thoughts import Thoughts
from gpo_lightning.rewards import Number, Phrase, Rewards
from gpo_lightning.rewards.formats import THOUGHTS

TURNS = ("<|im_start|>", "<|im_end|>")
CHAT = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>assistant"
FAMILIES = [pair for pair in THOUGHTS.items() if "channel" not in pair[0]]


def tokenizer(*added: str, special: bool = True, template: str | None = CHAT) -> PreTrainedTokenizerFast:
    """One token a byte, and the added ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    base.pre_tokenizer, base.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    base.add_tokens([AddedToken(text, special=special, normalized=False) for text in added])
    base.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in TURNS])
    made = PreTrainedTokenizerFast(tokenizer_object=base, eos_token="<|im_end|>")
    made.chat_template = template
    return made


def said(made: PreTrainedTokenizerFast, prompt: str, response: str, **named: str) -> str:
    ids = [tuple(made.encode(text, add_special_tokens=False)) for text in (prompt, response)]
    return Thoughts(made).said(ids[0], ids[1], named)


@pytest.mark.parametrize(("begin", "end"), FAMILIES, ids=[begin for begin, _ in FAMILIES])
@pytest.mark.parametrize("special", [True, False, None], ids=["special token", "added token", "letters"])
def test_what_is_said_stands_behind_the_thought(begin: str, end: str, special: bool | None) -> None:
    made = tokenizer(*([] if special is None else [begin, end]), special=bool(special))
    asked = "<|im_start|>What?<|im_end|><|im_start|>assistant\n"
    assert said(made, asked, f"{begin}It may be 41.{end}It is 42.<|im_end|>") == "It is 42."
    assert said(made, asked, f"{begin}It is 42.") == "", "cut off in the thought"
    assert said(made, asked + begin, f"It may be 41.{end}\n42") == "\n42"
    assert said(made, asked + begin + "\n", "It is 42.") == "", "the prompt opened it"
    assert said(made, f"{asked}{begin}\n\n{end}\n\n", "It is 42.") == "It is 42.", "the prompt closed it as well"
    assert said(made, asked, "It is 42.") == "It is 42."
    assert said(made, asked, f"{begin}a{end}b{begin}c") == ""
    assert said(made, asked, f"{begin}a{end}b{begin}c{end}d") == "d"
    assert said(made, asked, f"{begin}41{end}") == ""


def test_a_response_is_never_right_before_its_thought_ends() -> None:
    made = tokenizer("[THINK]", "[/THINK]")
    thought = len(made.encode("[THINK]The answer is 42.[/THINK]", add_special_tokens=False))
    tokens = made.encode("[THINK]The answer is 42.[/THINK]The answer is 42.", add_special_tokens=False)
    told = [Thoughts(made).said((), tokens[:cut]) for cut in range(len(tokens) + 1)]
    assert told[: thought + 1] == [""] * (thought + 1)
    assert told[thought + 1 :] == ["The answer is 42."[:length] for length in range(1, 18)]


def test_prefilled_words_of_a_thought_leave_it_open_and_a_question_about_marks_does_not() -> None:
    made = tokenizer("<think>", "</think>", special=False)
    assert said(made, "<|im_start|>What?<|im_end|><|im_start|>assistant\n<think>\nOkay, so", " 42") == ""
    asked = "<|im_start|>What does <think> do?<|im_end|><|im_start|>assistant\n"
    assert said(made, asked, "It is 42.") == "It is 42."
    assert said(tokenizer(template=None), "What does <think> do?\nAnswer:", "It is 42.") == "It is 42."


def test_letters_only_speak_of_a_mark_that_is_a_token() -> None:
    made = tokenizer("<think>", "</think>", special=False)
    (letters,) = {tuple(tokenizer().encode("a <think> b", add_special_tokens=False))}
    assert Thoughts(made).said((), letters) == "a <think> b"


def test_channels_end_with_the_final_one() -> None:
    made = tokenizer("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>")
    analysis = "<|channel|>analysis<|message|>It may be 41.<|end|><|start|>assistant"
    assert said(made, "<|start|>assistant", f"{analysis}<|channel|>final<|message|>It is 42.<|return|>") == "It is 42."
    assert said(made, "<|start|>assistant", "<|channel|>analysis<|message|>It is 42.") == ""
    assert said(made, "<|start|>assistant", f"{analysis}<|channel|>commentary<|message|>It is 42.") == ""
    assert said(made, "<|start|>assistant<|channel|>analysis<|message|>", "It is 42.") == ""


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("<reasoning>", "</reasoning>"),
        ("<|begin_of_reasoning|>", "<|end_of_reasoning|>"),
        ("<my_think>", "</my_think>"),
    ],
)
def test_marks_are_taken_from_the_template_and_the_tokenizer(begin: str, end: str) -> None:
    for made in (tokenizer(begin, end), tokenizer(template=f"{CHAT}{begin} ... {end}")):
        assert said(made, "", f"{begin}41{end}42") == "42"
        assert said(made, begin, "41") == ""


def test_further_marks_can_be_named() -> None:
    made = tokenizer()
    assert said(made, "", "<plan>41</plan>42") == "<plan>41</plan>42"
    assert said(made, "", "<plan>41</plan>42", **{"<plan>": "</plan>"}) == "42"
    assert said(made, "", "<plan>41", **{"<plan>": "</plan>"}) == ""


def test_a_grader_judges_what_is_said_and_functions_see_all() -> None:
    problem = Problem("1", "t", "42", prompt="?")
    responses = [
        Response(problem, "The answer is 42.", (1,), said=""),
        Response(problem, "The answer is 41. The answer is 42.", (1,), said="The answer is 42."),
        Response(problem, "The answer is 42.", (1,)),
    ]
    rows = Rows([{"prompt": "?", "answer": "42"}])
    graded = Rewarded(rows, Number((Phrase(),))).grade_responses(responses)
    assert [grade.reward for grade in graded] == [0.0, 1.0, 1.0]
    seen = Rewarded(rows, Rewards(lambda completion, **columns: float("41" in completion))).grade_responses(responses)
    assert [grade.reward for grade in seen] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("prompt", "response", "reward"),
    [
        ("<think>", "The answer is 42.", 0.0),
        ("<think>", "The answer is 42.</think>", 0.0),
        ("<think>", "The answer is 41.</think>The answer is 42.<|im_end|>", 1.0),
        ("", "<think>The answer is 42.</think>The answer is 41.<|im_end|>", 0.0),
        ("", "The answer is 42.<|im_end|>", 1.0),
    ],
)
def test_rollouts_are_paid_for_what_they_say(prompt: str, response: str, reward: float) -> None:
    made = tokenizer("<think>", "</think>", template=None)
    script = tuple(made.encode(response, add_special_tokens=False))
    length = len(made.encode(f"?{prompt}", add_special_tokens=False))
    engine = Scripted(lambda tokens: {script[len(tokens) - length]: 1.0}, eos=made.eos_token_id or 0)
    rows = Rewarded(Rows([{"prompt": f"?{prompt}", "answer": "42"}]), Number((Phrase(),)))
    trees, _ = respond(engine, made, rows, rows.train(), Sampling(len(script), temperature=1.0), 1, 0)
    (sample,) = trees[0].samples
    assert (sample.reward, sample.tokens) == (reward, script)


def test_a_tokenizer_that_cannot_write_the_marks_has_no_thoughts() -> None:
    words = Tokenizer(models.WordLevel({"It": 0, "is": 1, "42": 2}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
    assert Thoughts(made).said((0,), (0, 1, 2)) == "It is 42"
