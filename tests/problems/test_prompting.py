"""Where text becomes prompt tokens."""

from typing import Any

import pytest

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import Message, Problem
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

TURNS = (Message("system", "1"), Message("user", "2"))
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}?{% endif %}"


def test_plain_text_is_encoded_as_it_is(tokenizer: Any) -> None:
    ids = encode_prompt(Problem("p", "t", "0", prompt="37a+5?\n"), tokenizer)
    assert isinstance(ids, tuple)
    assert tokenizer.decode(ids) == "37a+5?\n"


def test_chat_turns_go_through_the_template_and_open_the_answer() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    ids = encode_prompt(Problem("p", "t", "0", messages=TURNS), tokenizer)
    assert isinstance(ids, tuple)
    assert all(isinstance(token, int) for token in ids)
    assert tokenizer.decode(ids) == "12?"


def test_chat_turns_without_a_chat_template_name_the_keys_and_the_problem(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*'p7'.*model\.policy\.base.*no chat template"):
        encode_prompt(Problem("p7", "t", "0", messages=TURNS), tokenizer)


def test_text_the_tokenizer_does_not_know_names_the_key_and_the_problem(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*'p8'"):
        encode_prompt(Problem("p8", "t", "0", prompt="What?"), tokenizer)
    with pytest.raises(ConfigError, match=r"data\.problems.*'p9'"):
        encode_solution(Problem("p9", "t", "0", prompt="1", solution="ABC"), tokenizer, (2,))


def test_end_of_sequence_closes_a_solution_and_stands_nowhere_else(tokenizer: Any) -> None:
    ids = encode_solution(Problem("p", "t", "0", prompt="1", solution="a1+1=2\n#2"), tokenizer, eos_ids=(2,))
    assert ids is not None
    assert ids[-1] == 2
    assert ids.count(2) == 1
    assert tokenizer.decode(ids[:-1]) == "a1+1=2\n#2"


def test_a_solution_is_a_continuation_and_begins_with_no_special_token() -> None:
    class Opening:
        """Opens every text with a beginning-of-sequence token when asked for special tokens."""

        name_or_path = "opening"
        chat_template = None
        eos_token_id = 2

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [1] * add_special_tokens + [9] * len(text)

    problem = Problem("p", "t", "0", prompt="ab", solution="c")
    assert encode_prompt(problem, Opening()) == (1, 9, 9)  # type: ignore[arg-type]
    assert encode_solution(problem, Opening(), (2,)) == (9, 2)  # type: ignore[arg-type]


def test_a_problem_without_a_solution_has_none(tokenizer: Any) -> None:
    assert encode_solution(Problem("p", "t", "0", prompt="1"), tokenizer, (2,)) is None
