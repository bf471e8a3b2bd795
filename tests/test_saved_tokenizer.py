"""Token ids are those of ``tokenizer.json``, under whatever names transformers finds in the configurations."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.saved_tokenizer import read_tokenizer

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def byte_level() -> PreTrainedTokenizerFast:
    """As in models distilled into Llama's and Qwen's layouts."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), Decoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False)
    tokenizer.train_from_iterator(["hello world, the answer is 42.\nIt is so."] * 50, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


SAVED = byte_level()


def write(folder: Path, tokenizer: PreTrainedTokenizerFast, model_type: str, name: str | None) -> str:
    """A folder that holds the tokenizer, under the names that its two configurations give."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | ({} if name is None else {"tokenizer_class": name})))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return str(folder)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("name", ["LlamaTokenizerFast", "PreTrainedTokenizerFast", "Qwen2TokenizerFast", None])
def test_a_tokenizer_encodes_as_it_was_saved(tmp_path: Path, model_type: str, name: str | None) -> None:
    tokenizer = read_tokenizer(write(tmp_path, SAVED, model_type, name))
    text = "hello world,\n the answer is  42"
    assert tokenizer.encode(text, add_special_tokens=False) == SAVED.encode(text, add_special_tokens=False)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|end|>", TEMPLATE)


def test_transformers_own_choice_is_still_wrong(tmp_path: Path) -> None:
    """What the module is for; where this fails, it can go."""
    folder = write(tmp_path, SAVED, "llama", "LlamaTokenizerFast")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer.encode("the answer", add_special_tokens=False)) == "theanswer"


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3_5_text", "llama"])
def test_a_tokenizer_of_words_keeps_its_newlines(tmp_path: Path, model_type: str) -> None:
    tokenizer = read_tokenizer(write(tmp_path, tiny_tokenizer(), model_type, None))
    assert tokenizer.decode(tokenizer.encode("3+4\n7")) == "3+4\n7"


def test_one_that_is_as_it_was_saved_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    Policy(PolicyConfig())
    assert "tokenizer.json" not in caplog.text


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return read_tokenizer(write(tmp_path_factory.mktemp("tokenizer"), SAVED, "llama", "LlamaTokenizerFast"))


@given(text=st.text(max_size=40))
def test_any_text_comes_back(misnamed: PreTrainedTokenizerBase, text: str) -> None:
    assert misnamed.decode(misnamed.encode(text, add_special_tokens=False)) == text
