"""The base model and its tokenizer, from the hub or a directory, and what its configuration says.

transformers does the loading: sharded safetensors, its cache, ``HF_HUB_OFFLINE`` and a token in ``HF_TOKEN`` are its
own. What is here refuses by name what it would load, or fail on, without a word about the key to change.
"""

from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.config import PolicyConfig
from gpo_lightning.policy.embedded import resolve_base
from gpo_lightning.policy.embedded.resolve import EMBEDDED
from gpo_lightning.policy.intact import check_base
from gpo_lightning.saved_tokenizer import read_tokenizer

_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
_UNBOUNDED = 1 << 20
_LONGEST_REASON = 500
_HUB_ADVICE = (
    " Check the spelling and model.policy.revision; a private model needs a token in HF_TOKEN; without a network only "
    "what is in the cache (HF_HOME) can be had."
)


def base_config(config: PolicyConfig) -> PretrainedConfig:
    """The base model's configuration, without its weights.

    Raises:
        ConfigError: there is no such model, or it is in a form that cannot be trained.
    """
    directory = resolve_base(config.base)
    _refuse_other_files(config.base, Path(directory))
    try:
        found = AutoConfig.from_pretrained(
            directory, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # of the network, the hub, the files, or code that comes with the model
        raise _not_loaded("model", config, error) from error
    if method := _quantized_by(found):
        raise ConfigError(
            f"model.policy.base: the weights of {config.base!r} are quantised ({method}) and cannot be trained. Name "
            "the model they were made from, and set model.policy.quantization to train an adapter over 4-bit weights."
        )
    return found


def load_tokenizer(config: PolicyConfig) -> Tokenizer:
    directory = resolve_base(config.base)
    try:
        return read_tokenizer(directory, config.revision, config.trust_remote_code)
    except Exception as error:  # of the network, the hub, the files, or code that comes with the model
        raise _not_loaded("tokenizer", config, error) from error


def load_model(config: PolicyConfig, quantized: bool = True) -> PreTrainedModel:
    """The base model in eval mode; in full precision unless it is to be quantised."""
    found = base_config(config)
    attention = None if config.attention == "auto" else config.attention
    try:
        model, loaded = cast(Any, AutoModelForCausalLM).from_pretrained(
            resolve_base(config.base),
            config=found,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told, and refused, by name
            revision=config.revision,
            dtype=config.torch_dtype,
            attn_implementation=attention,
            quantization_config=config.quantization if quantized else None,
            trust_remote_code=config.trust_remote_code,
        )
    except Exception as error:  # of the network, the hub, the files, or code that comes with the model
        if attention is not None and ("attention" in str(error) or attention in str(error)):
            raise ConfigError(
                f"model.policy.attention is {attention!r}, which {config.base!r} cannot be loaded with: {error}"
            ) from error
        raise _not_loaded("model", config, error) from error
    check_base(model, loaded, config.base)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would pack its weights anew for CPU inference, after which no gradient goes through them.
            module.support_avx512bf16_for_cpu = False
    return cast(PreTrainedModel, model)


def context_of(config: PretrainedConfig) -> int:
    """Most tokens a model can attend to; of a model for text and images, its text model.

    >>> from transformers import LlamaConfig
    >>> context_of(LlamaConfig(max_position_embeddings=4096))
    4096
    """
    text = config.get_text_config(decoder=True)
    for name in _LENGTHS:
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return _UNBOUNDED


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether positions can be given; where they are not a number a token (ALiBi, recurrent layers) they cannot."""
    return "position_ids" in signature(model.forward).parameters


def _quantized_by(config: PretrainedConfig) -> str | None:
    for part in (config, config.get_text_config()):
        settings: Any = getattr(part, "quantization_config", None)
        if settings:
            method = settings.get("quant_method") if isinstance(settings, dict) else settings.quant_method
            return str(getattr(method, "value", method) or "by an unknown method").upper()
    return None


def _refuse_other_files(base: str, directory: Path) -> None:
    local = directory.is_dir()
    gguf = any(directory.glob("*.gguf")) if local else base.lower().endswith(("gguf", ".gguf"))
    has_config = local and (directory / "config.json").is_file()
    if gguf and not has_config:
        raise ConfigError(
            f"model.policy.base: {base!r} holds GGUF files, whose quantised weights cannot be trained. Name the model "
            "they were made from, and set model.policy.quantization to train an adapter over 4-bit weights."
        )
    if local and not has_config and (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"model.policy.base: {base!r} is an adapter. Give it as model.policy.adapter, and as model.policy.base the "
            "model it was trained on."
        )


def _not_loaded(what: str, config: PolicyConfig, error: Exception) -> ConfigError:
    advice = "" if Path(config.base).exists() else _HUB_ADVICE
    said = " ".join(str(error).split()) or type(error).__name__
    # transformers may list all it knows.
    said = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
    near = get_close_matches(config.base, EMBEDDED, 1) if advice else []
    meant = f" Did you mean {near[0]}?" if near else ""
    return ConfigError(f"model.policy.base: no {what} could be loaded from {config.base!r}.{meant} {said}{advice}")
