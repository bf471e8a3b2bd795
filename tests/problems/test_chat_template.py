"""A chat template keeps the words of the turns and opens the assistant's, or somebody says that it does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Message, Problem
from gpo_lightning.problems.chat_template import render_prompt, turn_end
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
EVERY = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}"
PLAIN = EVERY + OPEN
NO_OPENING = EVERY
INSTRUCT = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}"
)
SYSTEM_LOST = "{% for m in messages if m.role != 'system' %}" + EVERY.partition("%}")[2] + OPEN
LAST_ALONE = "<|user|>\n{{ messages[-1].content }}<|end|>\n" + OPEN
PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}<|end|>\n{% endfor %}" + OPEN
)
NO_THOUGHTS = EVERY.replace("m.content | trim", "m.content.split('</think>')[-1] | trim") + OPEN
SYSTEM_LAST = (  # Mistral's later templates put the system turn before the last question
    "{% for m in messages[1:] %}{% if loop.last %}{{ messages[0].content }}\n\n{% endif %}<|{{ m.role }}|>\n"
    "{{ m.content }}<|end|>\n{% endfor %}" + OPEN
)


def tokenizer(template: str) -> Any:
    alphabet = sorted(ByteLevel.alphabet())
    inner = Tokenizer(BPE({sign: place for place, sign in enumerate(alphabet)}, []))
    inner.pre_tokenizer, inner.decoder = ByteLevel(add_prefix_space=False), Decoder()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")
    made.chat_template = template
    return made


def asked(*turns: tuple[str, str]) -> Problem:
    return Problem("p", "t", "0", messages=tuple(Message(*turn) for turn in turns), solution="42", place="x.jsonl:3")


QUESTION = ("user", "What is 6 * 7?")
SYSTEM = ("system", "Be brief.")
SHOT = (("user", "What is 1 + 1?"), ("assistant", "<think>One and one.</think>\n2"))


@pytest.mark.parametrize("template", [PLAIN, NO_OPENING, PARTS, NO_THOUGHTS])
@pytest.mark.parametrize("turns", [(QUESTION,), (SYSTEM, QUESTION), (SYSTEM, *SHOT, QUESTION)])
def test_templates_of_all_layouts_give_the_same_prompt(template: str, turns: tuple[tuple[str, str], ...]) -> None:
    written = "".join(f"<|{role}|>\n{words}<|end|>\n" for role, words in turns) + "<|assistant|>\n"
    found = render_prompt(asked(*turns), tokenizer(template))
    if template is NO_THOUGHTS:
        written = written.replace("<think>One and one.</think>\n", "")
    assert found == written


@pytest.mark.parametrize("template", [PLAIN, NO_OPENING, PARTS, NO_THOUGHTS, INSTRUCT])
def test_solutions_are_closed_in_all_layouts(template: str) -> None:
    made = tokenizer(template)
    end = made.convert_tokens_to_ids("<|end|>")
    assert turn_end(made, (end,)) == (end,)
    assert made.decode(encode_solution(asked(QUESTION), made, (end,))) == "42<|end|>"


def test_a_template_without_an_opening_of_its_own_is_left_as_it_is() -> None:
    """Where the question's closing mark is all that comes before an answer."""
    assert render_prompt(asked(QUESTION), tokenizer(INSTRUCT)) == "[INST] What is 6 * 7? [/INST]"


def test_words_may_stand_in_another_order() -> None:
    text = render_prompt(asked(SYSTEM, *SHOT, QUESTION), tokenizer(SYSTEM_LAST))
    assert text.endswith("Be brief.\n\n<|user|>\nWhat is 6 * 7?<|end|>\n<|assistant|>\n")


@pytest.mark.parametrize(
    ("template", "turns", "said"),
    [
        (SYSTEM_LOST, (SYSTEM, QUESTION), r"drops the words of the system turn .*prompting\.system null"),
        (LAST_ALONE, (*SHOT, QUESTION), r"drops the words of the user turn .*another template"),
        (LAST_ALONE, (SYSTEM, QUESTION), r"drops the words of the system turn"),
        ("{{ bos_token }}" + OPEN, (QUESTION,), r"drops the words of the user turn"),
    ],
)
def test_words_that_are_dropped_are_told(template: str, turns: tuple[tuple[str, str], ...], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.problems: the chat template .*{said}") as raised:
        encode_prompt(asked(*turns), tokenizer(template))
    assert "problem 'p' of x.jsonl:3" in str(raised.value)


def test_a_template_that_keeps_what_is_asked_is_taken_whatever_else_it_drops() -> None:
    assert render_prompt(asked(QUESTION), tokenizer(SYSTEM_LOST)) == "<|user|>\nWhat is 6 * 7?<|end|>\n<|assistant|>\n"


@pytest.mark.parametrize("template", [PLAIN, PARTS])
def test_an_answer_that_is_begun_is_gone_on_with(template: str) -> None:
    text = render_prompt(asked(QUESTION, ("assistant", "6 * 7 is")), tokenizer(template))
    assert text.endswith("<|assistant|>\n6 * 7 is")


@given(words=st.text(st.characters(exclude_categories=["Cs"]), max_size=30), system=st.booleans())
def test_whatever_is_said_is_kept(words: str, system: bool) -> None:
    turns = ((SYSTEM,) if system else ()) + (("user", words),)
    for template in (PLAIN, NO_OPENING, PARTS):
        assert words.strip() in render_prompt(asked(*turns), tokenizer(template))
