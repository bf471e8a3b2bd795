from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import FixedLength, LowProbability, Marker, Newline, Segmenter, Sentence
from gpo_lightning.critical.token_text import TokenText, token_pieces
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


class DropsBlanks:
    """A tokenizer that drops the blank a text begins with, as sentencepiece's do."""

    words = (" a", " b", "c", "\n", " ", "ß", "")

    def decode(self, ids, skip_special_tokens) -> str:
        return "".join(self.words[i] for i in ids).removeprefix(" ")


@given(st.lists(st.integers(0, 6), max_size=60))
def test_a_blank_that_is_dropped_where_a_token_stands_alone_is_its_own_in_its_place(ids) -> None:
    text = TokenText(DropsBlanks())
    found = [text.pieces(ids) for _ in range(2)]
    assert found[0] == found[1]
    words = [DropsBlanks.words[i] for i in ids]
    if ids and words[0] in ("c", "\n", "ß"):
        assert found[0][1:17] == words[1:17]


@given(st.lists(st.integers(0, 200), max_size=40))
def test_what_is_looked_up_is_what_is_decoded_in_place(tokenizer, ids) -> None:
    text = TokenText(tokenizer)
    assert text.pieces(ids) == text._in_place(ids)


def test_a_character_spread_over_tokens_belongs_to_the_last_of_them() -> None:
    class Bytes:
        """A byte-level tokenizer in one line."""

        def decode(self, ids, skip_special_tokens) -> str:
            return bytes(ids).decode(errors="replace")

    ids = list("a€\nß".encode())
    pieces = token_pieces(Bytes(), ids)
    assert pieces == ["a", "", "", "€", "\n", "", "ß"]


ALL: list[Segmenter] = [
    Newline(2, 5),
    Marker(r"b", "after", 1, 5),
    Marker(r"a|\.", "before", 2, 5),
    Sentence(1, 5),
    FixedLength(3, 5),
    LowProbability(0.5, 1, 5),
]


@pytest.mark.parametrize("segmenter", ALL, ids=lambda s: type(s).__name__)
@given(drawn=pieces, seed=st.integers(0, 99))
def test_every_segmenter_covers_the_response(segmenter: Segmenter, drawn, seed: int) -> None:
    logprobs = [-((seed * (i + 1)) % 7) / 3 for i in range(len(drawn))]
    boundaries = segmenter.boundaries(drawn, logprobs)
    assert boundaries[0] == 0
    assert boundaries[-1] == len(drawn)
    assert all(a < b for a, b in pairwise(boundaries))
    assert len(boundaries) - 1 <= 5


def steps_of(segmenter: Segmenter, text: str) -> list[str]:
    """Steps of a text whose every character is a token."""
    boundaries = segmenter.boundaries(list(text))
    return [text[a:b] for a, b in pairwise(boundaries)]


@pytest.mark.parametrize(
    ("segmenter", "text", "steps"),
    [
        (Sentence(1), "Pi is 3.14. So? Yes! Done", ["Pi is 3.14.", " So?", " Yes!", " Done"]),
        (Sentence(1), 'He said "no." Then left.', ['He said "no."', " Then left."]),
        (Sentence(1), "一。二！三", ["一。", "二！", "三"]),
        (Sentence(1), "x = a.b()\ny = 2\n", ["x = a.b()\n", "y = 2\n"]),
        (Marker(r"Step \d+"), "Step 1 a Step 2 b", ["Step 1 a ", "Step 2 b"]),
        (Marker(r"^\\item", "before"), "\\item $x$\n\\item $y$", ["\\item $x$\n", "\\item $y$"]),
        (Marker(r";\s*", "after"), "a; b;c", ["a; ", "b;", "c"]),
        (Marker(r"x*"), "abc", ["abc"]),
        (FixedLength(2), "abcde", ["ab", "cde"]),
        (FixedLength(9), "abc", ["abc"]),
    ],
)
def test_steps_of_prose_code_latex_and_other_scripts(segmenter: Segmenter, text: str, steps: list[str]) -> None:
    assert steps_of(segmenter, text) == steps


def test_a_marker_across_tokens_begins_with_its_first_token() -> None:
    assert Marker(r"Step 2", min_tokens=1).boundaries(["Step", " 1", ". ", "St", "ep 2", "!"]) == (0, 3, 6)


def test_a_step_begins_where_the_policy_was_not_sure() -> None:
    logprobs = [-2.0, -0.1, -0.1, -1.0, -0.1, -3.0]
    assert LowProbability(0.5, min_tokens=1).boundaries(list("abcdef"), logprobs) == (0, 3, 5, 6)
    assert LowProbability(0.5, min_tokens=1).boundaries(list("abcdef")) == (0, 6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Marker("("),
        lambda: LowProbability(0.0),
        lambda: FixedLength(0),
        lambda: Sentence(0),
        lambda: Marker("a", max_steps=0),
    ],
)
def test_segmenters_that_cannot_work_are_refused(make) -> None:
    with pytest.raises(ConfigError, match=r"data\.segmenter"):
        make()


THINKING = ["<", "think", ">", "\n", "one", " two", ".\n", "three", "</", "think", ">\n", "so", " four", ".\n", "five"]


@pytest.mark.parametrize("segmenter", [Newline(1), Newline(3), Sentence(1), FixedLength(1), FixedLength(4), Newline()])
def test_a_thought_ends_at_a_boundary_and_no_tag_is_cut(segmenter: Segmenter) -> None:
    boundaries = segmenter.boundaries(THINKING)
    assert 11 in boundaries, "after the closing tag"
    assert not set(boundaries) & {1, 2, 9, 10}, "inside a tag"
    assert (boundaries[0], boundaries[-1]) == (0, len(THINKING))
    assert list(boundaries) == sorted(set(boundaries))


def test_a_thought_is_cut_into_steps_and_the_most_steps_are_kept() -> None:
    long = ["<think>", *["a\n"] * 50, "</think>", *["b\n"] * 20]
    boundaries = Newline(1, max_steps=10).boundaries(long)
    assert len(boundaries) <= 11
    assert 52 in boundaries
    assert sum(offset < 52 for offset in boundaries) >= 5


def test_a_thought_without_end_is_cut_like_any_text() -> None:
    assert Newline(1).boundaries(["<think>", "a\n", "b\n", "c"]) == (0, 2, 3, 4)
