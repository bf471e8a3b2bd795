"""Where a sentence that tells the answer begins and ends, in English, Chinese, Japanese, Korean, Arabic and Hindi."""

import re
from functools import lru_cache

_QUALIFIED = r"(?:(?:correct|right|final|best|only|overall|most\s+appropriate)\s{1,9}){0,2}answer"
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts without blanks between words: a word may begin anywhere."""
_MARKS = r"\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0962\u0963"
"""Vowel signs and the like, which are no letters to ``\\w`` and yet go on with a word."""
_HANGUL = r"\uac00-\ud7a3"
_AFTER_PHRASE = re.compile(
    r"[\s:：*_=＝、，،—\u200b-\u200f\u202a-\u202e]*(?:(?:therefore|thus|hence|then)\b[\s:,*_]*)?", re.IGNORECASE
)
_SENTENCE_ENDS = re.compile(
    r"[.!?۔؟][*_\"')\]”’»」』】）]*(?=\s|$)|[。｡।॥！？][*_\"')\]”’»」』】）]*|．(?![0-9０-９])|\s\|(?=\s|$)|[\r\n]|$"
)
_ASKED = "!?？؟"
"""Stops that belong to the answer: ``5!`` is a factorial and ``42?`` is no answer."""
_COPULA = re.compile(
    r"(?<=.)(?:\s*(?:です|である|だ|[にと]な(?:ります|る)|입니다|이다|이에요|예요)|\s+(?:है|हैं|होगा|होता है))\Z"
)
_REASON = re.compile(r"[,，、،]\s*(?:because|since|因为|因為|なぜなら|왜냐하면|لأن|क्योंकि)", re.IGNORECASE)
_ABBREVIATED = re.compile(
    r"(?:(?<!\w)(?:St|Mr|Mrs|Ms|Dr|Prof|Mt|Gen|Col|Sgt|Capt|Lt|Rev|sq|cu|approx|vs|e\.g|i\.e)"
    r"|(?<!\w)[A-Z]\.\s[A-Z]|(?<!\w)(?!Option|Choice|Answer)[A-Z][a-z]+\s[A-Z])\Z"
)
_INITIAL = re.compile(r"(?<!\w)[A-Z]\.\s[A-Z]\.")
_LONGEST_ABBREVIATION = 24
_DISPLAY = {r"\[": r"\]", "$$": "$$"}
_EMPHASIS = " \t*_\u3000"


@lru_cache(maxsize=64)
def spoken(phrase: str) -> re.Pattern[str]:
    """Finds a phrase where it is said as whole words, in scripts that have any.

    >>> bool(spoken("答案是").search("所以答案是42。")), bool(spoken("the answer is").search("lathe answer is 42"))
    (True, False)
    """
    words = r"\s{1,9}".join(_QUALIFIED if word == "answer" else re.escape(word) for word in phrase.split())
    before = "" if re.match(f"[{_UNSPACED}{_HANGUL}]", phrase) else r"(?<!\w)"
    before += "[وف]?" if re.match(r"[\u0620-\u064a]", phrase) else ""  # "and" and "so" are written together with it
    after = "" if re.search(f"[{_UNSPACED}{_HANGUL}]$", phrase) else rf"(?![\w{_MARKS}])"
    return re.compile(rf"{before}{words}{after}", re.IGNORECASE)


def sentence(text: str, begin: int) -> tuple[str, int]:
    """What stands between ``begin`` and the end of the sentence or line, and where that is.

    >>> sentence("答えは「42」です。次は", 3)
    ('「42」', 10)
    """
    said, begin = begin, _AFTER_PHRASE.match(text, begin).end()  # type: ignore[union-attr]  # matches nothing at worst
    closing = _DISPLAY.get(text[begin : begin + 2])
    if closing is not None and (close := text.find(closing, begin + 2)) >= 0:
        return text[begin : close + 2], close + 2
    stop = _stop(text, begin)
    end, after = (stop.start(), stop.end()) if stop else (len(text), len(text))
    if _belongs(text, begin, end):
        end += 1
    elif stop and any(sign in stop[0][1:] for sign in "」』】）”’»"):
        end += len(stop[0].rstrip("*_"))  # a stop before the quotation ends
    told = _REASON.split(text[begin:end], maxsplit=1)[0].strip(_EMPHASIS)
    if "**" in text[said:begin]:
        told = told.replace("**", "", 1)
    return _COPULA.sub("", told).strip(_EMPHASIS), after


def _belongs(text: str, begin: int, end: int) -> bool:
    """Whether the stop is part of the answer; an exclamation mark only behind what may have a factorial."""
    sign = text[end : end + 1]
    return (
        bool(sign)
        and sign in _ASKED
        and (sign != "!" or re.search(r"[\w)}\]]\Z", text[begin:end], re.ASCII) is not None)
    )


def _stop(text: str, begin: int) -> re.Match[str] | None:
    """Where the sentence ends: not behind an abbreviation or an initial of a name."""
    for stop in _SENTENCE_ENDS.finditer(text, begin):
        place = stop.start()
        before = text[max(begin, place - _LONGEST_ABBREVIATION) : place]
        initial = _INITIAL.match(text, place - 1) if place > begin else None
        if text[place : place + 1] != "." or not (_ABBREVIATED.search(before) or initial):
            return stop
    return None
