"""`tiny`: a language model small enough to train on one processor core, made for `problems.modular_chains`.

An ordinary fp32 `LlamaForCausalLM` of 1.06 M parameters with one token per number, operator and letter:

    37a+5?\\n  ->  37 | a | + | 5 | ? | \\n

so text survives encoding and decoding unchanged. What is here is the untrained model; `make tiny` teaches it.
"""

from string import ascii_lowercase

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>")
SYMBOLS = "\n+-*=?#"
NUMBERS = 97
VOCABULARY = (*SPECIAL, *map(str, range(NUMBERS)), *SYMBOLS, *ascii_lowercase)
"""133 tokens; a token's id is its place here."""

WIDTH = 160
LAYERS = 3
HEAD_WIDTH = 32
"""vLLM's CPU attention takes 32, 64, 80, 96, 112, 128 and more, but not, say, 48."""
MAX_TOKENS = 512
EMBEDDINGS = 192
"""Rows of the embedding table: the vocabulary, rounded up to a multiple of 64."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Numbers above 96 and characters outside `SYMBOLS` and a-z are errors, so that nothing is lost silently."""
    tokenizer = Tokenizer(WordLevel({token: index for index, token in enumerate(VOCABULARY)}))
    tokenizer.pre_tokenizer = Split(Regex(r"\d+|\n|."), behavior="isolated")
    tokenizer.decoder = Fuse()
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
    )


def tiny_model(seed: int) -> LlamaForCausalLM:
    pad, bos, eos = (VOCABULARY.index(token) for token in SPECIAL)
    config = LlamaConfig(
        vocab_size=EMBEDDINGS,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=WIDTH // HEAD_WIDTH,
        num_key_value_heads=WIDTH // HEAD_WIDTH,
        head_dim=HEAD_WIDTH,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
        tie_word_embeddings=False,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
