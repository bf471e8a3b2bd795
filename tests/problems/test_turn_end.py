"""Prompts and solutions end as the model was taught: tokenizers of many layouts, made small."""

from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Message, Problem
from gpo_lightning.problems.chat_template import turn_end
from gpo_lightning.problems.prompt_check import PromptCheck
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

SPECIAL = ["<bos>", "<eos>", "<eot>", "<user>", "<assistant>", "<eom>"]
WORDS = ["Hi", "you", "said-here", "asked-next", "###"]
ID = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
ASKED = Problem("p", "t", "0", messages=(Message("user", "Hi"),), solution="you", place="x.jsonl:7")
HEAD = "{% for m in messages %}<{{ m.role }}> {{ m.content }}"
GENERATE = "{% if add_generation_prompt %} <assistant>{% endif %}"
TURN = {
    "end of turn": HEAD + " <eot> {% endfor %}" + GENERATE,
    "end of sequence": HEAD + "{% if m.role == 'assistant' %} <eos>{% endif %} {% endfor %}" + GENERATE,
    "next turn": HEAD + " {% endfor %}" + GENERATE,
    "words alone": "{% for m in messages %}### {{ m.content }} {% endfor %}",
}
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TURN["end of turn"]
)


def tokenizer(template: str | None = None, closing: bool = False) -> Any:
    inner = Tokenizer(WordLevel(ID, unk_token="###"))
    inner.pre_tokenizer = WhitespaceSplit()
    specials = [(token, ID[token]) for token in SPECIAL]
    inner.post_processor = TemplateProcessing(
        single="<bos> $A" + (" <eos>" if closing else ""), special_tokens=specials
    )
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>")
    made.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    made.chat_template = template
    return made


@pytest.mark.parametrize(
    ("layout", "eos_ids", "end"),
    [
        ("end of turn", ("<eos>", "<eom>", "<eot>"), "<eot>"),  # Llama 3, Gemma: the first of the list is another
        ("end of turn", ("<eos>",), "<eot>"),  # a base model with a template of its instructed sister
        ("end of sequence", ("<eos>", "<eot>"), "<eos>"),
        ("next turn", ("<eos>", "<user>"), "<user>"),  # GLM: the next turn's opening ends this one
        ("next turn", ("<eos>", "<eot>"), "<eos>"),
        ("words alone", ("<eot>", "<eos>"), "<eos>"),
    ],
)
def test_a_solution_ends_as_the_template_ends_a_turn(layout: str, eos_ids: tuple[str, ...], end: str) -> None:
    ids = encode_solution(ASKED, tokenizer(TURN[layout]), tuple(ID[token] for token in eos_ids))
    assert ids == (ID["you"], ID[end])


def test_a_plain_text_ends_with_the_tokenizers_own_end() -> None:
    plain = Problem("p", "t", "0", prompt="Hi", solution="you")
    assert encode_solution(plain, tokenizer(TURN["end of turn"]), (ID["<eot>"], ID["<eos>"])) == (
        ID["you"],
        ID["<eos>"],
    )


def test_a_tokenizer_without_a_template_ends_no_turn() -> None:
    assert turn_end(tokenizer(), (ID["<eos>"],)) == ()


def test_a_prompt_is_opened_and_never_closed() -> None:
    plain = Problem("p", "t", "0", prompt="Hi you")
    for closing in (False, True):
        assert encode_prompt(plain, tokenizer(closing=closing)) == (ID["<bos>"], ID["Hi"], ID["you"])
    assert tokenizer(closing=True).encode("Hi")[-1] == ID["<eos>"], "which this tokenizer would"


def test_a_template_that_refuses_is_found_at_the_start_with_row_and_remedy() -> None:
    system = Problem("q", "t", "0", messages=(Message("system", "Hi"), *ASKED.messages), place="x.jsonl:9")
    check = PromptCheck(tokenizer(NO_SYSTEM), context=100, vocabulary=100)
    with pytest.raises(ConfigError, match=r"refuses problem 'q' of x\.jsonl:9.*no system turn.*system null.*1 others"):
        check.longest([([ASKED, system, system], 10)])


def test_the_longest_text_is_known_and_prompts_without_room_are_told(caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem(str(n), "t", "0", prompt="Hi " * n, place=f"x.csv:{n}") for n in (3, 5, 40)]
    check = PromptCheck(tokenizer(), context=30, vocabulary=100)
    assert check.longest([(problems, 10)]) == 6 + 10
    assert check.longest([(problems, 500)]) == 30
    assert caplog.text.count("1 of 3 prompts leave no room for a response in the 30 tokens") == 1
    assert "problem '40' of x.csv:40 with 41 tokens" in caplog.text


def test_solutions_are_checked_where_the_loss_reads_them() -> None:
    from gpo_lightning.policy.embedded.tiny import tiny_tokenizer

    problems = [Problem("p", "t", "0", prompt="1", solution="ABC")]
    assert PromptCheck(tiny_tokenizer(), 100, 133).longest([(problems, 1)]) == 2
    with pytest.raises(ConfigError, match=r"cannot encode problem 'p'"):
        PromptCheck(tiny_tokenizer(), 100, 133, solutions=True).longest([(problems, 1)])


def test_a_token_the_model_has_no_embedding_for_is_named() -> None:
    asked = [
        Problem("p", "t", "0", prompt="Hi", place="x.csv:2"),
        Problem("q", "t", "0", prompt="Hi you", place="x.csv:3"),
    ]
    with pytest.raises(
        ConfigError, match=rf"'you' of problem 'q' of x\.csv:3 as token {ID['you']}.* {ID['you']} tokens alone"
    ):
        PromptCheck(tokenizer(), 100, vocabulary=ID["you"]).longest([(asked, 1)])
    solved = [Problem("p", "t", "0", prompt="Hi", solution="you")]
    assert PromptCheck(tokenizer(), 100, vocabulary=ID["you"]).longest([(solved, 1)])
    with pytest.raises(ConfigError, match="'you' of problem 'p'"):
        PromptCheck(tokenizer(), 100, vocabulary=ID["you"], solutions=True).longest([(solved, 1)])
