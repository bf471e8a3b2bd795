"""An option is named once and without a hedge; a sentence ends where it does."""

import pytest

from gpo_lightning.rewards import Choice, Phrase, Whole

WHOLE = (Whole(),)
CITIES = {"options": ["Paris", "Rome", "Oslo"]}


@pytest.mark.parametrize(
    "named",
    [
        "The correct answer is (B)",
        "The final answer is B.",
        "The best answer is **(B)**",
        "The answer is B (Rome).",
        "Answer: B",
        "The answer is (b) Rome.",
        "The answer is **B**: Rome",
        "**Answer:** B",
        "The answer is **B. Rome**",
    ],
)
def test_ways_to_name_an_option(named: str) -> None:
    grade = Choice().grade(named, "B", CITIES)
    assert (grade.reward, grade.answer) == (1.0, "B")


@pytest.mark.parametrize(
    "hedged",
    [
        "B, maybe Paris",
        "Rome, maybe",
        "B, but possibly A",
        "(B)?",
        "B (Paris)",
        "B unless A",
        "Rome or Paris",
        "B, perhaps",
        "B; I could be wrong",
        "Rome? Paris?",
        "B and also C",
        "(b) Paris",
        "**B**: Paris",
        "B, no, C",
        "probably Rome",
    ],
)
def test_a_hedged_option_is_unparsed(hedged: str) -> None:
    assert Choice(WHOLE).grade(hedged, "B", CITIES).reward == 0.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is St. Louis. It lies there.", "St. Louis"),
        ("The answer is J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien"),
        ("The answer is John F. Kennedy.", "John F. Kennedy"),
        ("The answer is Dr. Who. Yes.", "Dr. Who"),
        ("The answer is B. Because it is.", "B"),
        ("The answer is No. Because it is.", "No"),
        ("The answer is option B. Because", "option B"),
        ("The correct answer is 42. So", "42"),
    ],
)
def test_an_abbreviation_does_not_end_the_sentence(text: str, answer: str) -> None:
    assert Phrase().find(text) == answer
