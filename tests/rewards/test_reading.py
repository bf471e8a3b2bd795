"""An answer is read whole: units, relations, words, lists and notations count; each row holds golds and texts."""

import pytest

from gpo_lightning.rewards import Boxed, Case, Maths, Number, Whole

WHOLE = (Whole(),)

WRONG = [
    ("a variable is no unit", "3-i", ["3", "3+i", "3-x", "3i"]),
    ("a variable is no unit", "-2n^2 - n", ["-2", "-2n^2", "-n", "-2m^2-m", "-2n^2+n"]),
    ("a variable is no unit", "18-x", ["18", "x", "18-y", "x-18"]),
    ("a variable is no unit", r"\frac{1}{3}", [r"\frac{1}{3}m", r"\frac13x", r"\frac{1}{3}-i", "0.33", r"33\%"]),
    ("a variable is no unit", "42", ["42k", r"42^T", "42_5", "x_{42}", "42'", "42e1", r"42\mathrm{i}"]),
    ("no part is salvaged", "43", [r"x = 42 \lor x = 43", r"1, 2, \ldots, 43", "42. 43", "42; 43", r"42 \to 43"]),
    ("no part is salvaged", "42", ["42\\\\43", r"\cancel{42} 43", "4 2", r"4\,2", "42 43", r"42 \equiv 0", "42..43"]),
    ("no part is salvaged", "42", [r"42 \approx 43", "42=43", "43=42", "x=42=43", "x=43, y=42", "[42,42]", "(42,43)"]),
    ("a relation is no value", "42", ["> 42", r"\neq 42", r"\le 42", "≥ 42", "x ≠ 42", r"\not= 42", "x<42", "!= 42"]),
    ("a relation is itself", r"x \ge 5", ["x > 5", r"x \le 5", "5", r"(5,\infty)", r"5 \ge x", r"y \ge 5"]),
    ("a relation is itself", "-2 < x < 7", [r"-2 \le x < 7", "x < 7", "(-2,7]", "[-2,7]"]),
    ("words take back", "42", [r"42\text{ is wrong}", r"\text{not } 42", "42 maybe", r"42\text{ or so}", "42?"]),
    ("words take back", "42", [r"42\text{ minus one}", r"42\text{ fails}", r"42\text{ instead}", r"\text{over }42"]),
    ("words take back", "42", [r"42 \text{ at least}", r"42\text{ dozen}", r"42\text{ hundred}", "42 or more"]),
    ("notations are whole", r"8\!:\!34 \text{ p.m.}", ["8", "8:33 p.m.", "8:34 a.m.", "34", "8.34"]),
    ("notations are whole", "2516_8", ["2516", "2516_7", "2516_{10}", r"\not= 2516_8"]),
    ("notations are whole", "-37_8", ["-37", "37_8", "-37_9"]),
    ("notations are whole", "1:2", ["1", "2", "2:1", "1:3", "1:2:3"]),
    ("notations are whole", "5/12/2020", ["12/5/2020", "5/12/2021", "2020"]),
    ("decimals have a precision", r"\sqrt{2}", ["1.414214", "1.41421356", "1.4142135623730950488", r"\sqrt{3}"]),
    ("decimals have a precision", "0", ["2^{-200}", "0.0000000000000000001"]),
    ("decimals have a precision", "42", ["42...", "42…", "42.0000001"]),
    ("decimals have a precision", r"\pi", ["3.141593", "22/7", "3.14"]),
    ("decimals have a precision", "3.14", ["3.15", "3.1", "3.2"]),
    ("brackets differ", "(1,2)", ["[1,2]", "(2,1)", "1, 2, 3", "(1,2]", r"(1,2) \cup (3,4)"]),
    ("brackets differ", "1,2", ["(2,1)", "1", "1,2,3", "1.2", "[1,2]"]),
    ("units differ", r"5\text{ cm}", [r"5\text{ m}", r"5\text{ cm}^2", r"5\text{ kg}", r"5\text{ dollars}"]),
    ("units differ", r"\$36", [r"36\text{ cents}", r"36\%", "36 euros"]),
    ("units differ", r"10\%", ["0.01", r"10\text{ dollars}"]),
]
RIGHT = [
    (
        "42",
        [
            "x = 42",
            r"42\text{ times}",
            "42 km/h",
            r"42\text{ cm}^2",
            "42€",
            r"\text{Area} = 42",
            "４２。",
            r"6\cdot 7 = 42",
        ],
    ),
    (
        "42",
        [r"42\text{ people}", "USD 42", r"\approx 42", "42 miles per hour", r"42\text{ sq. ft.}", "42 apples", "٤٢"],
    ),
    (r"28\%", ["$28$ percent", "28 %", "28"]),
    (r"\frac12", ["0.5", "½", r"50\%", "2^{-1}", r"\frac{1}{2}\text{ cm}", "1/2"]),
    (r"5\text{ cm}", ["5", "5 cm", r"50\text{ mm}", r"5\mathrm{cm}"]),
    ("8:34", [r"8:34\text{ p.m.}", "08:34", r"8\!:\!34"]),
    ("2516_8", ["x = 2516_8", r"2516_{\text{8}}", "2516_{eight}"]),
    ("(1,2)", ["x=1, y=2", "(x,y)=(1,2)", r"x=1\text{ and }y=2", r"\left(1, 2\right)"]),
    ("[0,1)", [r"0\le x<1", r"x\in[0,1)"]),
    (r"x \ge 5", [r"5\le x", r"[5,\infty)", "x≥5", "x>=5"]),
    ("1,2", ["2,1", "1 and 2", r"x=1\text{ or }x=2", r"\{1,2\}", r"x_1=1, x_2=2"]),
    ("1, 2, 3", ["1, 2, and 3", r"1, 2\text{ and }3"]),
    ("3.14", [r"\pi", "3.14159", r"\frac{157}{50}"]),
    ("y=2x+3", ["2x+3", "y-2x-3=0", "y-3=2x"]),
    (r"\text{June 20}", ["June 20", r"\text{june 20}."]),
    (r"x \neq 3", ["x != 3", r"x \ne 3"]),
]


@pytest.mark.parametrize(("why", "gold", "texts"), WRONG, ids=[f"{why}: {gold}" for why, gold, _ in WRONG])
def test_what_says_more_or_less_than_the_gold_is_not_right(why: str, gold: str, texts: list[str]) -> None:
    grades = Maths(WHOLE).grade_all([Case(text, gold) for text in texts])
    assert not [text for text, grade in zip(texts, grades, strict=True) if grade.reward != 0.0]


@pytest.mark.parametrize(("gold", "texts"), RIGHT, ids=[gold for gold, _ in RIGHT])
def test_what_says_the_same_is_right(gold: str, texts: list[str]) -> None:
    grades = Maths(WHOLE).grade_all([Case(text, gold) for text in texts])
    assert not [(text, grade) for text, grade in zip(texts, grades, strict=True) if grade.reward != 1.0]


def test_a_percent_sign_is_a_unit_only_where_the_question_asks_for_it() -> None:
    asked, other = {"question": "What percent of them are red?"}, {"question": "How many are red?"}
    for grader in (Maths(WHOLE), Number(WHOLE)):
        assert grader.grade(r"42\%", "42", asked).reward == 1.0
        assert grader.grade(r"42\%", "42", other).reward == 0.0
        assert grader.grade(r"42\%", "0.42", other).reward == 1.0


def test_a_letter_of_the_question_is_no_unit() -> None:
    assert Maths(WHOLE).grade("5 m", "5", {"question": "How long is the rope?"}).reward == 1.0
    assert Maths(WHOLE).grade("5 m", "5", {"question": "Find the value if $m$ is a prime."}).reward == 0.0


def test_boxes_of_the_question_and_boxes_for_layout_are_no_answers() -> None:
    question = {"question": r"Which number belongs into \boxed{n}?"}
    assert Maths((Boxed(),)).grade(r"For \boxed{n} we find \boxed{7}.", "7", question).reward == 1.0
    asked = [{"role": "user", "content": question["question"]}]
    quoting = Case(r"For \boxed{n} we find \boxed{7}.", "7", prompt=asked)
    assert [grader.grade_all([quoting])[0].reward for grader in (Maths((Boxed(),)), Number((Boxed(),)))] == [1.0, 1.0]
    for blank in ("", "?", r"\quad", r"\text{answer}", r"\phantom{00}", "...", r"\square", r"\ ", "your answer"):
        assert Boxed().find(rf"Fill \boxed{{{blank}}}: \boxed{{7}}") == "7", blank
