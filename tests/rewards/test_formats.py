"""Which answer of a response counts: the one that is finished first, and nothing after it."""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards import Boxed, LastExpression, Marked, Number, Phrase, Tagged, Whole
from gpo_lightning.rewards.formats import AnswerFormat, after_thought, first_answer

EVERY = (Boxed(), Phrase(), Marked(), Marked("####"), Tagged(), Whole(), LastExpression())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{42}", "42"),
        (r"\fbox{42} or \boxed{41}", "42"),
        (r"\boxed{\frac{1}{2}} then \boxed{3}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\boxed{42}}", r"\boxed{42}"),
        (r"\boxed{} and \boxed{ 42 }", "42"),
        (r"\boxed {42}", "42"),
        (r"\boxed{41 or \boxed{42}}", r"41 or \boxed{42}"),
        (r"\boxed{41 \boxed{42}", None),
        ("I open \\boxed{ here.\n\nSo \\boxed{42}", "42"),
        (r"\boxed{42", None),
        (r"boxed{42}", None),
        (r"\boxed 42", None),
        ("42", None),
    ],
)
def test_the_first_box_that_closes_is_the_answer(text: str, answer: str | None) -> None:
    assert Boxed().find(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is 42.", "42"),
        ("THE ANSWER IS: **42**.\nNo, 43.", "42"),
        ("**The answer is 42.** Then more", "42"),
        ("the answer is 3.5 apples. The answer is 4.", "3.5 apples"),
        ("The answer is not 42.", "not 42"),
        ("The answer is:\n\n\\[ 42 \\]\n", r"\[ 42 \]"),
        ("the  answer\nis (B).", "(B)"),
        ("The answer is 5!", "5!"),
        ("The answer is", None),
        ("the answer isn't 42", None),
        ("lathe answer is 42", None),
        ("42", None),
    ],
)
def test_a_phrase_tells_the_answer_up_to_the_end_of_its_sentence(text: str, answer: str | None) -> None:
    assert Phrase().find(text) == answer


def test_tags_hold_the_answer_between_them() -> None:
    assert Tagged().find("<answer></answer><answer> 42\n</answer><answer>43</answer>") == "42"
    assert Tagged().find("<answer>41<answer>42</answer>") == "41<answer>42"
    assert Tagged().find("<answer>42") is None
    assert Tagged("final").find("<final>42</final>") == "42"


def test_a_mark_opens_a_line() -> None:
    assert Marked("####").find("x #### 1\n#### 42\n#### 43") == "42"
    assert Marked().find("It is 42") is None


def test_of_several_formats_the_answer_finished_first_counts() -> None:
    formats = (Boxed(), Phrase(), Tagged())
    assert first_answer(r"The answer is 41. \boxed{42}", formats) == "41"
    assert first_answer(r"\boxed{42}. The answer is 41.", formats) == "42"
    assert first_answer(r"The answer is \boxed{42}.", formats) == "42"
    assert first_answer(r"<answer>The answer is \boxed{42}</answer>", formats) == "42"
    assert first_answer("nothing", formats) is None


def test_the_order_of_formats_means_nothing() -> None:
    text = r"The answer is 41. \boxed{42} <answer>43</answer>"
    assert first_answer(text, (Boxed(), Phrase(), Tagged())) == first_answer(text, (Tagged(), Phrase(), Boxed()))


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<think>a", None),
        ("<think>a</think>b<think>c", None),
        ("<think>a</think>b<think>c</think>d", "d"),
    ],
)
def test_the_answer_is_read_after_the_thought(response: str, said: str | None) -> None:
    assert after_thought(response) == said


def test_an_answer_inside_a_thought_is_none() -> None:
    assert first_answer(r"<think>\boxed{42}</think>I do not know", [Boxed()]) is None
    assert first_answer(r"<think>\boxed{42}", [Boxed()]) is None
    assert first_answer(r"\boxed{41}</think>\boxed{42}", [Boxed()]) == "42"


def test_a_grader_needs_a_format() -> None:
    with pytest.raises(ConfigError, match="formats"):
        Number(())


PIECES = (
    *(r"\boxed{", "}", "{", "\\", "$", "$$", "the answer is ", "Answer: ", "####", "\n", "\n\n", ". ", "42", "x", " "),
    *("<answer>", "</answer>", "and ", ", ", r"\(", r"\)", "final answer is", "1,", "\x00", "٣", "\ud800"),
)
noise = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@given(noise, noise)
def test_nothing_written_after_a_finished_box_tag_or_line_changes_the_answer(text: str, more: str) -> None:
    for each in (Boxed(), Tagged()):
        answer = each.find(text)
        assert answer is None or each.find(text + more) == answer
    answer = Phrase().find(text + "\n")
    assert answer is None or Phrase().find(text + "\n" + more) == answer


@given(st.one_of(noise, st.text()))
def test_no_text_makes_a_format_raise(text: str) -> None:
    for each in EVERY:
        found = each.search(text)
        assert found is None or (found.answer.strip() and 0 < found.end <= len(text)) or isinstance(each, Marked)


@pytest.mark.parametrize("each", EVERY, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("piece", [*PIECES, "\\boxed{}", "the answer is", "the  ", "the answer is\n", "$x", "1 000 "])
def test_a_megabyte_of_anything_is_read_at_once(each: AnswerFormat, piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    begin = perf_counter()
    each.find(text)
    assert perf_counter() - begin < 5.0
