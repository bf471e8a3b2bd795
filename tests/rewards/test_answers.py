"""Right is right however it is written; an answer that hedges, denies or only quotes the gold is not."""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards import BigBenchHard, Boxed, Choice, Grader, Maths, Number, Phrase, Text, Whole

WHOLE = (Whole(),)
CITIES = {"options": ["Paris", "Rome", "A town"]}


def reason(grader: Grader, given_answer: str, gold: str, **metadata: object) -> str:
    return grader.grade(given_answer, gold, metadata).reason


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        *(("1,204", "1204"), ("$1,204.00", "1204"), (r"\$1{,}204", "1204"), (r"10,\!080", "10080"), ("1 000", "1000")),
        *(
            ("18 dollars", "18"),
            ("18 dollars per day", "18"),
            ("5 km/h", "5"),
            ("5 cm^2", "5"),
            (r"15\mbox{ cm}^2", "15"),
        ),
        *(("3/4", "0.75"), (r"\frac{3}{4}", "3/4"), (r"\frac34", "0.75"), ("1 3/4", "1.75"), (r"1\frac{3}{4}", "7/4")),
        *(
            ("½", "0.5"),
            ("1½", "1.5"),
            ("-3/4", "−0.75"),
            ("1e3", "1000"),
            (r"2.5 \times 10^{3}", "2500"),
            ("10^5", "100000"),
        ),
        *(("50%", "50"), (r"50\%", "0.5"), ("50 percent", "50%"), ("1.5 million", "1500000"), ("2 million", "2")),
        *(("025", "25"), ("336", r"336^\circ"), ("336 degrees", r"336^\circ"), ("x = 5", "5"), ("2 + 3 = 5", "5")),
        *(("**42**", "42"), ("$42$.", "42"), (r"\boxed{42}", "42"), (r"\text{42 apples}", "42"), ("٤٢", "42")),
        *(("about 42", "42"), ("10/3 ≈ 3.33", "10/3"), (r"x \approx 11", "11"), (".5", "0.5"), ("-0", "0")),
    ],
)
def test_the_same_number_written_otherwise_is_right(given_answer: str, gold: str) -> None:
    assert reason(Number(WHOLE), given_answer, gold) == "right"


@pytest.mark.parametrize(
    "given_answer",
    [
        *(
            "41 or 42",
            "42, 43",
            "42 and 43",
            "not 42",
            "42 is wrong",
            "42, not 41",
            "42 instead",
            "more than 42",
            "-42",
        ),
        *(
            "42x",
            "42i",
            r"42\pi",
            "42!",
            "42^2",
            "42²",
            "4 2",
            "4,2",
            "42/0",
            "42:00",
            "x != 42",
            "2x + z = 42",
            "41 = 42 = 43",
        ),
        *(
            "42e999999999",
            "9**9**9**9",
            "1e-400",
            "42" * 100,
            "420",
            "4.2",
            "42_8",
            "√42",
            "42+1",
            "42 - 1",
            "forty-two",
            "∞",
        ),
    ],
)
def test_what_is_not_one_number_or_another_number_is_wrong(given_answer: str) -> None:
    assert reason(Number(WHOLE), given_answer, "42") == "wrong"


def test_numbers_may_differ_by_the_tolerance() -> None:
    assert reason(Number(WHOLE), "3.33", "10/3") == "wrong"
    assert reason(Number(WHOLE, tolerance=0.01), "3.33", "10/3") == "right"
    with pytest.raises(ConfigError, match="tolerance"):
        Number(WHOLE, tolerance=-1)


def test_a_gold_answer_that_cannot_be_read_judges_nothing() -> None:
    for grader in (Number(WHOLE), Choice(WHOLE), Maths(WHOLE)):
        grade = grader.grade("42", "", {})
        assert (grade.reward, grade.reason) == (None, "gold_unreadable")
    assert Number(WHOLE).grade("42", "many", {}).reward is None
    assert Choice(WHOLE).grade("B", "D", {"options": ["x", "y"]}).reward is None


@given(
    st.fractions(max_denominator=10**6), st.sampled_from(["{}", " {} ", "${}$", "**{}**", "{} apples", r"\boxed{{{}}}"])
)
def test_every_number_is_itself_and_no_other(number: object, form: str) -> None:
    assert reason(Number(WHOLE), form.format(number), str(number)) == "right"
    assert reason(Number(WHOLE), form.format(number), str(number + 1)) == "wrong"  # type: ignore[operator]


@pytest.mark.parametrize(
    "same", ["Eiffel Tower", "the  eiffel tower.", '"The Eiffel Tower"', "**Eiffel Tower**", r"\text{Eiffel Tower}"]
)
def test_text_is_compared_without_its_dress(same: str) -> None:
    grade = Text(WHOLE).grade(same, "the Eiffel Tower", {})
    assert (grade.reason, grade.answer) == ("right", "eiffel tower")
    assert reason(Text(WHOLE), same, "Eiffel") == "wrong"


@pytest.mark.parametrize(
    "named",
    [
        "B",
        "(B)",
        "b",
        "B.",
        "B)",
        "[B]",
        "**B**",
        r"\text{B}",
        r"\boxed{B}",
        "option B",
        "B) Rome",
        "(B) Rome",
        "B: Rome",
        "B. Rome",
        "B - Rome",
        "B Rome",
        "Rome",
        "rome.",
        "B because it is the capital",
        "(B), the capital",
    ],
)
def test_an_option_is_named_by_letter_or_text(named: str) -> None:
    grade = Choice(WHOLE).grade(named, "B", CITIES)
    assert (grade.reason, grade.answer) == ("right", "B")


@pytest.mark.parametrize(
    "named",
    [
        "A or B",
        "B or A",
        "A and B",
        "B, A",
        "B/C",
        "(A)(B)",
        "BA",
        "not B",
        "B is wrong",
        "B) Paris",
        "B, not A",
        "Z",
        "",
        "Paris",
        "Rome or Paris",
        "A town",
        "neither",
        "B? no, A",
        "All",
        "It is B or so",
        "(B) or (C)",
    ],
)
def test_two_options_or_another_are_wrong(named: str) -> None:
    assert Choice(WHOLE).grade(f"{named} ", "B", CITIES).reward == 0.0


def test_options_of_the_same_text_are_the_same_answer() -> None:
    assert reason(Choice(WHOLE), "x", "B", options=["x", "X"]) == "right"


@pytest.mark.parametrize(
    ("right", "wrong", "gold"),
    [
        ("(M)", "(A)", "(M)"),
        ("M", "M or N", "(M)"),
        ("yes", "yes and no", "Yes"),
        ("No, because", "not no", "no"),
        ("True.", "not True", "True"),
        ("valid", "invalid", "valid"),
        ("−50", "50", "-50"),
        ("]]>", "] ]", "] ] >"),
        ("} ) ]", "} ] )", "} ) ]"),
        ("fox, owl, pine", "owl fox pine", "fox owl pine"),
        ("Monsters, Inc", "Monsters", "Monsters, Inc"),
        ("dearth, wind, & fire", "earth, wind, & fire", "dearth, wind, & fire"),
    ],
)
def test_big_bench_hard_tells_the_kind_by_the_gold(right: str, wrong: str, gold: str) -> None:
    assert reason(BigBenchHard(WHOLE), right, gold) == "right"
    assert reason(BigBenchHard(WHOLE), wrong, gold) == "wrong"


FORMATS = (Boxed(), Phrase())
GRADERS = [
    (Number(FORMATS), "42"),
    (Text(FORMATS), "42"),
    (Maths(FORMATS), "42"),
    (BigBenchHard(FORMATS), "42"),
    (Choice(FORMATS), "B"),
]


@pytest.mark.parametrize(("grader", "gold"), GRADERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "response",
    [
        "I first thought of {gold}. The answer is 7.",
        "The answer is 7. The answer is {gold}.",
        r"\boxed{{7}} \boxed{{{gold}}}",
        "The answer is not {gold}.",
        r"\boxed{{7 or {gold}}}",
        "<think>The answer is {gold}.</think> The answer is 7.",
        "<think>The answer is {gold}.",
        r"\boxed{{{gold}",
        "{gold}",
        "The gold answer {gold} is given.",
    ],
)
def test_the_gold_quoted_in_a_wrong_response_is_never_rewarded(grader: Grader, gold: str, response: str) -> None:
    assert grader.grade(response.format(gold=gold), gold, {}).reward == 0.0


@pytest.mark.parametrize(("grader", "gold"), GRADERS, ids=lambda value: type(value).__name__)
def test_what_follows_a_right_answer_is_not_read(grader: Grader, gold: str) -> None:
    assert grader.grade(f"The answer is {gold}. The answer is 7. \\boxed{{7}}", gold, {}).reward == 1.0


@pytest.mark.parametrize(("grader", "gold"), GRADERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "piece", ["9", ",", "1,", "1 ", "a ", "(", "{", "\\", "\\frac", "$", "the ", "=", ".", "\x00", "- ", "x="]
)
def test_very_long_answers_are_judged_at_once(grader: Grader, gold: str, piece: str) -> None:
    answers = [piece * size for size in (195 // len(piece), 900 // len(piece), 1_000_000)]
    begin = perf_counter()
    grades = [grader.grade(f"The answer is {answer}", gold, {}) for answer in answers]
    assert all(grade.reward == 0.0 for grade in grades)
    assert perf_counter() - begin < 25.0 if isinstance(grader, Maths) else perf_counter() - begin < 5.0


@pytest.mark.parametrize(("grader", "gold"), [pair for pair in GRADERS if not isinstance(pair[0], Maths)])
@given(text=st.one_of(st.text(), st.text(alphabet="0123456789.,-+/^%$\\{}()ABor not=≈½²٣x\x00")))
def test_no_answer_makes_a_grader_raise_or_judge_in_between(grader: Grader, gold: str, text: str) -> None:
    assert grader.grade(f"The answer is {text}", gold, CITIES).reward in (0.0, 1.0)


def test_right_answers_get_the_same_vote() -> None:
    for grader, gold, texts in (
        (Number(WHOLE), "0.75", ["3/4", "75%", r"\frac34"]),
        (Maths(WHOLE), r"x^2+2x+1", ["(x+1)^2", "1+2x+x^2"]),
        (Choice(WHOLE), "B", ["(B)", "b"]),
    ):
        assert len({grader.grade(text, gold, {}).answer for text in texts}) == 1
