"""The grader of marked answers: right is right however written, and nothing else is."""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.rewards import MarkedAnswer
from gpo_lightning.rewards.marked_answer import marked_answer

RIGHT, WRONG, UNPARSED = (1.0, "right"), (0.0, "wrong"), (0.0, "unparsed")


def grade(response: str, answer: str, marker: str = "Answer:") -> tuple[float | None, str]:
    grade = MarkedAnswer(marker).grade(response, answer, {})
    return grade.reward, grade.reason


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        ("42", "42"),
        ("1,204", "1204.0"),
        ("1204.0", "1,204"),
        ("12,345,678", "12345678"),
        ("$5.", "5"),
        ("$1,000.50", "1000.5"),
        ("5.00", "5"),
        ("+7", "7"),
        ("-0", "0"),
        ("-3.50", "-3.5"),
        ("0.1", "0.10"),
        ("  42 ", "42"),
        ("007", "7"),
        ("Paris.", "paris"),
        ("STRASSE", "straße"),
        ("(B)", "(b)"),
    ],
)
def test_the_same_answer_written_otherwise_is_right(given_answer: str, gold: str) -> None:
    assert grade(f"Answer: {given_answer}", gold) == RIGHT


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        ("420", "42"),
        ("4.2", "42"),
        ("-42", "42"),
        ("41 or 42", "42"),
        ("42, 43", "42"),
        ("42 apples", "42"),
        ("1,2", "12"),
        ("4,2,0", "420"),
        ("12,04", "1204"),
        ("0.1000000000000000000000001", "0.1"),
        ("9007199254740993", "9007199254740992"),
        ("", "42"),
        ("42..", "42"),
        ("parish", "paris"),
    ],
)
def test_another_answer_is_wrong_however_near(given_answer: str, gold: str) -> None:
    assert grade(f"Answer: {given_answer}", gold) == WRONG


def test_only_the_first_answer_line_counts() -> None:
    assert grade("Answer: 41\nAnswer: 42", "42") == WRONG
    assert grade("Answer: 42\nAnswer: 41", "42") == RIGHT
    assert grade("Answer:\nAnswer: 42", "42") == WRONG


@pytest.mark.parametrize("quoted", ["It is 42.", "42", "The Answer: 42", "6 * 7 = 42\nso 42", "", "\n\n", "answer: 42"])
def test_the_gold_answer_quoted_elsewhere_is_not_rewarded(quoted: str) -> None:
    assert grade(quoted, "42") == UNPARSED


def test_the_line_may_be_indented_and_may_end_anyhow() -> None:
    assert grade("so\n  Answer: 42\r\nmore", "42") == RIGHT
    assert grade("Answer:42", "42") == RIGHT


def test_the_marker_is_literal_text() -> None:
    assert grade("#42", "42", marker="#") == RIGHT
    assert grade("a+b=1\n42", "42", marker=".*") == UNPARSED


@pytest.mark.parametrize(
    "digit", ["²", "٣", "½", "Ⅷ", "五", "−5", "٣٫٥", "1²", "٣,٣٣٣", "1_000", "∞", "nan", "1e3", "3/4"]
)
def test_digits_of_other_scripts_are_no_reason_to_fail(digit: str) -> None:
    assert grade(f"Answer: {digit}", "1000") == WRONG
    assert grade(f"Answer: {digit}", digit) == RIGHT


@pytest.mark.parametrize("filler", ["9", ",", "1,", ".", "-", "$", "\n", "Answer:", "Answer: 1\n", " ", "0.0", "é"])
@pytest.mark.parametrize("head", ["", "Answer: ", "Answer: 1"])
def test_answers_of_ten_thousand_characters_are_judged_at_once(head: str, filler: str) -> None:
    begin = perf_counter()
    found = grade(head + filler * 10_000, "42")
    assert found in (WRONG, UNPARSED)
    assert perf_counter() - begin < 1.0


adversarial = st.one_of(
    st.text(),
    st.text(alphabet="Answer: 0123456789,.-+$²٣\n\r\x0b\x1c\u2028\ud7ff/eE_"),
    st.builds("Answer:{}".format, st.text(alphabet="0123456789٣۵,.-+$ \x00")),
)


@given(adversarial, st.sampled_from(["42", "", "$", "²", "x", "-1,204.50"]), st.sampled_from(["Answer:", "#", "²"]))
def test_no_text_makes_it_raise_or_judge_in_between(response: str, gold: str, marker: str) -> None:
    assert grade(response, gold, marker) in (RIGHT, WRONG, UNPARSED)


@given(st.integers(), st.sampled_from(["{}", "{:,}", "{}.0", "${}", " {}. "]))
def test_every_number_is_itself(number: int, form: str) -> None:
    assert grade(f"Answer: {form.format(number)}", str(number)) == RIGHT
    assert grade(f"Answer: {form.format(number)}", str(number + 1)) == WRONG


def test_the_rest_of_the_marked_line_is_read() -> None:
    assert marked_answer("a\nAnswer: 4 2 \nb", "Answer:") == "4 2"
    assert marked_answer("a\nb", "Answer:") is None


def test_the_same_answer_written_otherwise_gets_the_same_vote() -> None:
    votes = {MarkedAnswer().grade(f"Answer: {text}", "7", {}).answer for text in ("1,204", "1204.0", "$1204.")}
    assert votes == {"1204"}
    assert MarkedAnswer().grade("no idea", "7", {}).answer is None
