from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import Newline, token_pieces
from gpo_lightning.errors import ConfigError

pieces = st.lists(st.sampled_from(["a", "bc", "\n", " ", "", ".\n", "\n\n", "é"]), max_size=40)


@given(pieces, st.integers(1, 6), st.integers(1, 8))
def test_steps_cover_the_response_without_overlap(drawn, min_tokens, max_steps) -> None:
    boundaries = Newline(min_tokens, max_steps).boundaries(drawn)
    assert boundaries[0] == 0
    assert boundaries[-1] == len(drawn)
    assert all(a < b for a, b in pairwise(boundaries))
    assert len(boundaries) - 1 <= max_steps


@given(pieces, st.integers(1, 6))
def test_no_step_is_short_or_blank_unless_it_is_the_only_one(drawn, min_tokens) -> None:
    boundaries = Newline(min_tokens, 1000).boundaries(drawn)
    steps = [drawn[a:b] for a, b in pairwise(boundaries)]
    if len(steps) > 1:
        assert all(len(step) >= min_tokens and "".join(step).strip() for step in steps)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([], (0,)),
        (["a", "b"], (0, 2)),
        (["\n", "\n"], (0, 2)),
        (["a", "\n", "b", "\n", "c"], (0, 2, 4, 5)),
        (["a", "\n", ""], (0, 3)),
    ],
)
def test_newline_on_the_edges(text, expected) -> None:
    assert Newline(min_tokens=1).boundaries(text) == expected


def test_too_many_steps_are_merged_evenly() -> None:
    assert Newline(min_tokens=1, max_steps=2).boundaries(["a\n"] * 8) == (0, 4, 8)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="min_tokens"):
        Newline(min_tokens=0)


@given(st.lists(st.sampled_from(["+", "b", "=", "\n", "?", "a37+5=42\n"]), max_size=12))
def test_pieces_join_to_the_text(tokenizer, parts) -> None:
    ids = tokenizer.encode("".join(parts))
    assert "".join(token_pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_character_spread_over_tokens_belongs_to_the_last_of_them() -> None:
    class Bytes:
        """A byte-level tokenizer in one line."""

        def decode(self, ids, skip_special_tokens) -> str:
            return bytes(ids).decode(errors="replace")

    ids = list("a€\nß".encode())
    pieces = token_pieces(Bytes(), ids)
    assert pieces == ["a", "", "", "€", "\n", "", "ß"]
