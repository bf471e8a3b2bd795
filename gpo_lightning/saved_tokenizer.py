"""The tokenizer as it was saved: token ids are those the model was trained on, whatever class transformers takes.

transformers picks a class by names in two configurations, and some classes build their rules anew instead of reading
them. A byte-level tokenizer under the name of Llama's then loses every space, and one of words under Qwen2's every
newline, without a word. What ``tokenizer.json`` does is what counts.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer as Saved
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.hub import cached_file

_LOG = logging.getLogger(__name__)
_FILE = "tokenizer.json"
# By kinds of signs, for a tokenizer of few words may know only some of them.
_TEXTS = (
    "37+5=42",
    "ab",
    "7\n8",
    "a b",
    "The  answer\tis\n\n 12.5, isn't it?",
    "né 你好 🙂",
    "def f(x):\n    return x",
)


def read_tokenizer(directory: str, revision: str | None = None, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer of a folder or a hub id; one that encodes otherwise than its file says is read from the file.

    Args:
        directory: folder or hub id.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that comes with it.
    """
    chosen: Any = AutoTokenizer.from_pretrained(directory, revision=revision, trust_remote_code=trust_remote_code)
    if type(chosen) is PreTrainedTokenizerFast:  # made of that file and nothing else
        return chosen
    saved = _saved(directory, revision)
    if saved is None or _encodes_alike(chosen, saved):
        return chosen
    _LOG.warning(
        "transformers takes the tokenizer of %r for a %s, which does not encode as its tokenizer.json says. The file "
        "counts here; who uses the model elsewhere should load PreTrainedTokenizerFast.",
        directory, type(chosen).__name__,
    )  # fmt: skip
    return cast(Any, PreTrainedTokenizerFast).from_pretrained(directory, revision=revision)


def _saved(directory: str, revision: str | None) -> Saved | None:
    """What ``tokenizer.json`` says; ``None`` where there is no such file."""
    if Path(directory).is_dir():
        file = Path(directory) / _FILE
    else:
        found = cached_file(directory, _FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
        file = Path(found or "")
    if not file.is_file():
        return None
    saved = Saved.from_file(str(file))
    saved.no_truncation()
    saved.no_padding()
    return saved


def _encodes_alike(chosen: Tokenizer, saved: Saved) -> bool:
    def ours(text: str) -> list[int]:
        return chosen.encode(text, add_special_tokens=False)

    def theirs(text: str) -> list[int]:
        return saved.encode(text, add_special_tokens=False).ids

    return all(_ids(ours, text) == _ids(theirs, text) for text in _TEXTS)


def _ids(encode: Callable[[str], list[int]], text: str) -> list[int] | None:
    try:
        return encode(text)
    except Exception:  # a tokenizer without an unknown token raises a bare Exception
        return None
