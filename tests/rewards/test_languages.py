"""Answers in six languages: twelve ways to say 42, wrong ones, options and names."""

import pytest

from gpo_lightning.rewards import Boxed, Choice, Grader, Marked, Maths, Number, Phrase, Tagged, Text


def sections(text: str) -> dict[str, list[str]]:
    """Lines below each heading; ⏎ breaks a line."""
    parts = [part.strip().splitlines() for part in text.split("# ")[1:]]
    return {heading: [line.replace("⏎", "\n") for line in lines] for heading, *lines in parts}


SAID = sections(
    """
# English: the answer is
So the answer is 42.
The answer is: 42
**The answer is 42.**
The answer is 42 apples.
the answer is $42$.
The final answer is 42
The answer is “42”.
The answer is ４２.
The answer is 42.0.
The answer is⏎⏎42
The correct answer is (42).
The answer is 42. So 43 is wrong.
# Chinese: 答案是
所以答案是42。
答案是：42
答案是 42。
**答案是42。**
因此,答案是４２．
答案是「42」。
答案是42个苹果。
答案是 $42$。
答案是：⏎42
答案是42。所以43不对。
答案是“42”！
最终答案是\\(42\\)。
# Japanese: 答えは
よって答えは42です。
答えは42。
答えは：42
答えは「42」です。
答えは４２である。
答えは、42です。
答えは42個です。
答えは 42 となります。
**答えは42だ。**
答えは $42$ です。
答えは42です。43ではない。
答えは『42』！
# Korean: 정답은
따라서 정답은 42입니다.
정답은 42이다.
정답은 42.
정답은: 42
정답은 ‘42’입니다.
정답은 ４２입니다.
정답은 42개입니다.
정답은 $42$입니다.
**정답은 42입니다.**
정답은 42예요.
정답은 42입니다. 43은 틀렸다.
정답은⏎42
# Arabic: الجواب هو
إذن الجواب هو 42.
الجواب هو ٤٢.
الجواب هو: ٤٢
والجواب هو ٤٢۔
فالجواب هو 42
الجواب هو «42».
الجواب هو ٤٢٫٠.
**الجواب هو 42.**
الجواب هو $42$.
الجواب هو ٤٢ تفاحة.
الجواب هو \u200f42\u200f.
الجواب هو ٤٢. وليس ٤٣.
# Hindi: उत्तर
अतः उत्तर 42 है।
उत्तर ४२ है।
सही उत्तर: ४२
उत्तर = 42
उत्तर 42 सेब है।
उत्तर “42” है।
**उत्तर 42 है।**
उत्तर $42$ है।
उत्तर 42॥
उत्तर:⏎42
उत्तर ४२ है। ४३ नहीं।
इसलिए उत्तर 42 होगा।
"""
)
TWELVE = [(heading, text) for heading, texts in SAID.items() for text in texts]
DENIED = sections(
    """
# 答案是
答案不是42。
答案是42或43。
答案是42吗？
答案是42万。
答案是－42。
答案是42以上。
答案是可能42。
答案是42多。
# 答えは
答えは42ではない。
答えは42または43です。
答えは42でしょう。
答えは42以上です。
答えは42か43です。
答えは42？
# 정답은
정답은 42가 아닙니다.
정답은 42 또는 43입니다.
정답은 42 이상입니다.
정답은 아마 42입니다.
정답은 42만입니다.
# الجواب هو
الجواب هو ليس 42.
الجواب هو 42 أو 43.
الجواب هو 42 ألف.
الجواب هو 42؟
الجواب هو ٤٣.
# उत्तर
उत्तर 42 नहीं है।
उत्तर 42 या 43 है।
उत्तर 42 लाख है।
उत्तर शायद 42 है।
उत्तर ४३ है।
उत्तरी 42।
"""
)

MORE = sections(
    """
# the answer is
The answer is **42** apples.
The answer is 42, because 6 * 7 = 42.
The answer is 42 (apples).
The answer is therefore 42.
# 答案是
答案是42，因为6乘以7等于42。
答案是 **42** 个。
答案是42米/秒。
答案是——42；
# 答えは
答えは42、なぜなら6×7=42だから。
答えは約42です。
# 답은
답은 42입니다!
따라서 답은 약 42명입니다.
# الإجابة هي
الإجابة هي ٤٢ دولارًا.
الإجابة هي ٤٢، لأن ٦ × ٧ = ٤٢.
# उत्तर है
उत्तर है 42 |
उत्तर है लगभग 42।
"""
)


def test_there_are_twelve_phrasings_of_six_languages() -> None:
    assert [len(texts) for texts in SAID.values()] == [12] * 6
    assert len(set(TWELVE)) == 72


@pytest.mark.parametrize(("heading", "text"), TWELVE)
def test_an_answer_is_understood_in_its_language(heading: str, text: str) -> None:
    phrase = Phrase(heading.partition(": ")[2])
    for grader in (Number((phrase,)), Maths((phrase,)), Maths((Boxed(), phrase))):
        assert grader.grade(text, "42", {}).reward == 1.0
        assert grader.grade(text, "43", {}).reward == 0.0


@pytest.mark.parametrize("phrase", MORE)
def test_so_it_is_in_other_words(phrase: str) -> None:
    for grader in (Number((Phrase(phrase),)), Maths((Phrase(phrase),))):
        assert not [text for text in MORE[phrase] if grader.grade(text, "42", {}).reward != 1.0]


@pytest.mark.parametrize("phrase", DENIED)
def test_denials_doubts_and_other_numbers_are_not_right(phrase: str) -> None:
    for grader in (Number((Phrase(phrase),)), Maths((Phrase(phrase),))):
        assert not [text for text in DENIED[phrase] if grader.grade(text, "42", {}).reward != 0.0]


@pytest.mark.parametrize(
    ("grader", "text", "gold"),
    [
        (Number((Phrase("答案是"),)), "答案是４，２００．５。", "4200.5"),
        (Number((Phrase("答案是"),)), "答案是42万。", "420000"),
        (Number((Phrase("答案是"),)), "答案是百分之42。", "42%"),
        (Number((Phrase("الجواب هو"),)), "الجواب هو ٤٬٢٠٠٫٥.", "4200.5"),
        (Number((Phrase("उत्तर"),)), "उत्तर ४२ प्रतिशत है।", "42%"),
        (Number((Phrase("उत्तर"),)), "उत्तर -४२.५ है।", "-42.5"),
        (Number((Phrase("उत्तर"),)), "उत्तर १,२३,४५६ है।", "123456"),
        (Number((Marked("答案："),)), "所以\n答案：42。", "42"),
        (Number((Tagged("答案"),)), "<答案>４２</答案>", "42"),
        (Maths((Phrase("答案是"),)), "答案是１／２。", r"\frac{1}{2}"),
        (Maths((Phrase("答案是"),)), "答案是（1，2）。", "(1,2)"),
        (Maths((Boxed(),)), r"所以\boxed{42\text{ 个}}。", "42"),
        (Maths((Boxed(),)), r"\boxed{1、2和3}", "1,2,3"),
        (Choice((Phrase("答案是"),)), "答案是（Ｂ）。", "B"),
        (Choice((Phrase("答案是"),)), "答案是选项B。", "B"),
        (Choice((Phrase("答えは"),)), "答えはBです。", "B"),
        (Choice((Phrase("정답은"),)), "정답은 B번입니다.", "B"),
        (Text((Phrase("答えは"),)), "答えは「パリ」です。", "パリ"),
        (Text((Phrase("答案是"),)), "答案是《红楼梦》。", "红楼梦"),
    ],
)
def test_signs_of_other_scripts_mean_what_they_mean(grader: Grader, text: str, gold: str) -> None:
    assert grader.grade(text, gold, {}).reward == 1.0
