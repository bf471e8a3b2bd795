"""The policy: a Hugging Face causal LM with LoRA adapters. The only place that sees hidden states and logits."""

import json
import shutil
import tempfile
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded import resolve_base
from gpo_lightning.policy.logprobs import token_logprobs
from gpo_lightning.policy.sharding import gathered, shard, take_over

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Precision = Literal["auto", "float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class PolicyConfig:
    """What the policy is made of.

    Args:
        base: base model: ``tiny`` or ``smollm2`` (embedded), a local directory, or a hub id.
        lora: the adapter that is trained; ``null`` trains every weight of the base model.
        adapter: directory of an adapter to go on from; its own settings replace ``lora``.
        quantization: 4-bit or 8-bit base weights; needs ``lora``.
        dtype: of the base weights; ``auto`` is bfloat16 on CUDA and float32 elsewhere.
        attention: attention implementation of transformers, such as ``sdpa`` or ``flash_attention_2``.
        gradient_checkpointing: recompute activations in the backward pass: slower, less memory.
        logit_chunk: tokens whose logits are computed at once.
        trust_remote_code: run model code that comes with the weights. Only for models whose authors you trust.
    """

    base: str = "tiny"
    lora: LoraConfig | None = None
    adapter: str | None = None
    quantization: BitsAndBytesConfig | None = None
    dtype: Precision = "auto"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    logit_chunk: int = 1024
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.quantization is not None and self.lora is None and self.adapter is None:
            raise ConfigError("model.policy.quantization needs model.policy.lora: quantised weights cannot be trained.")

    def check_shardable(self) -> None:
        """Refuse what :meth:`Policy.shard` cannot do, before any weights are loaded."""
        if self.quantization is not None:
            raise ConfigError(
                "model.policy.quantization: 4-bit and 8-bit weights cannot be sharded. Set it to null, or take "
                "configs/trainer/ddp.yaml, where every process has the whole, small, model."
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        if self.dtype == "auto":
            return torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return cast(torch.dtype, getattr(torch, self.dtype))


class Policy(nn.Module):
    """A causal LM whose trainable part is the LoRA adapter; the reference policy is the adapter switched off.

    Weights load at construction; build it late (``configure_model``) where that is dear.

    Args:
        config: what it is made of.
        values: add a value head: the expected reward before each token, from the last hidden state, 0 at first.
    """

    def __init__(self, config: PolicyConfig, values: bool = False) -> None:
        super().__init__()
        self.config = config
        self.directory = resolve_base(config.base)
        self.tokenizer = _load_tokenizer(self.directory, config)
        model = _load_model(self.directory, config)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self.model: PreTrainedModel | PeftModel = _with_adapter(model, config)
        self.value_head = _value_head(model) if values else None
        self._gathered: dict[str, Tensor] | None = None
        self._copy: list[Policy] | None = None  # in a list, for it is no part of this module
        self.train()

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The base causal LM, adapter layers inside."""
        return cast(PreTrainedModel, self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def lora(self) -> LoraConfig | None:
        """Settings of the adapter that is trained."""
        return cast(LoraConfig, self.model.peft_config["default"]) if isinstance(self.model, PeftModel) else None

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a response."""
        listed = cast(Any, getattr(self.causal_lm.generation_config, "eos_token_id", None))
        ids = cast(list[Any], listed if isinstance(listed, list) else [listed, self.tokenizer.eos_token_id])
        return tuple(dict.fromkeys(int(i) for i in ids if i is not None))

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return self.eos_ids[0] if pad is None else cast(int, pad)

    @property
    def context(self) -> int:
        """Most tokens the base model can attend to."""
        return int(getattr(self.causal_lm.config, "max_position_embeddings", 1 << 20))

    def logprobs(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probability of each masked token given those before it.

        Args:
            input_ids: ``[R, T]`` prompt and response, padded on either side.
            attention_mask: ``[R, T]`` 1 for tokens, 0 for padding.
            mask: ``[R, T]`` 1 where a log-probability is wanted; must be 0 in column 0.
            temperature: divides the logits, as in sampling.

        Returns:
            ``[R, T]`` float32 (float64 for a float64 model); 0 outside ``mask``.
        """
        return self._logprobs(self._hidden(input_ids, attention_mask), input_ids, mask, temperature)

    def logprobs_and_values(
        self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`logprobs`, and the value head's estimate before each masked token, ``[R, T]``, in one pass."""
        if self.value_head is None:
            raise ConfigError("This policy has no value head.")
        hidden = self._hidden(input_ids, attention_mask)
        values = self.value_head(hidden[:, :-1].to(self.value_head.weight.dtype)).squeeze(-1)  # [R, T - 1]
        laid = torch.nn.functional.pad(values, (1, 0)) * mask
        return self._logprobs(hidden, input_ids, mask, temperature), laid

    def _hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``[R, T, H]`` last hidden states."""
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return self.causal_lm.base_model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
        ).last_hidden_state

    def _logprobs(self, hidden: Tensor, input_ids: Tensor, mask: Tensor, temperature: float) -> Tensor:
        wanted = mask[:, 1:].bool()
        chosen = token_logprobs(
            hidden[:, :-1][wanted], input_ids[:, 1:][wanted], self._head(temperature), self.config.logit_chunk
        )
        result = torch.zeros(mask.shape, dtype=chosen.dtype, device=chosen.device)
        result[:, 1:][wanted] = chosen
        return result

    def _head(self, temperature: float) -> Any:
        lm = self.causal_lm
        output = cast(nn.Module, lm.get_output_embeddings())
        scale = getattr(lm.config, "logit_scale", 1.0) / getattr(lm.config, "logits_scaling", 1.0) / temperature
        cap = getattr(lm.config, "final_logit_softcapping", None)

        def head(hidden: Tensor) -> Tensor:
            logits = output(hidden)
            if cap is not None:
                logits = torch.tanh(logits / cap) * cap
            return logits if scale == 1.0 else logits * scale

        return head

    @contextmanager
    def reference(self) -> Generator[None]:
        """Within: this object computes as the reference policy, without gradients."""
        if not isinstance(self.model, PeftModel):
            raise ConfigError(
                "The loss reads a reference policy, which is the adapter switched off, but model.policy.lora is null. "
                "Give model.policy.lora, or choose a loss without a reference."
            )
        with self.model.disable_adapter(), torch.no_grad():
            yield

    def trainable_state(self) -> dict[str, Tensor]:
        """Names and values of what training changes; of a sharded policy, as they were at the last :meth:`gather`."""
        return self._trainable() if self._gathered is None else self._gathered

    def _trainable(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def shard(self, mesh: "DeviceMesh") -> None:
        """Spread the weights over the processes of a mesh of one dimension (FSDP2).

        From then on all processes compute together, as often as each other.
        """
        self.config.check_shardable()
        shard(self, self.causal_lm, mesh, ("logprobs", "logprobs_and_values"))
        self._gathered = {}

    @property
    def sharded(self) -> bool:
        return self._gathered is not None

    def gather(self) -> None:
        """Of a sharded policy, make :meth:`trainable_state` and the exports those of now. All processes call it."""
        if self._gathered is not None:
            self._gathered = gathered(self._trainable())

    def standalone(self) -> "Policy":
        """This policy where a process has all of it, else a copy, as it was at the last :meth:`gather`.

        Only such a one may generate: a process does as many forward passes as its responses are long.
        """
        if self._gathered is None:
            return self
        if self._copy is None:
            with torch.random.fork_rng(devices=[]):
                self._copy = [Policy(self.config, values=self.value_head is not None).eval()]
        take_over(self._copy[0], self, self._gathered)
        return self._copy[0]

    @cached_property
    def engine_directory(self) -> str:
        """The base model as an engine should serve it: if quantised, the weights really multiplied by."""
        if self.config.quantization is None:
            return self.directory
        directory = tempfile.mkdtemp(prefix="gpo-base-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        _write(self._plain_base(), Path(directory))
        self.tokenizer.save_pretrained(directory)
        return directory

    def _plain_base(self) -> PreTrainedModel:
        """A fresh copy of the base model in full precision, with the values the quantised weights stand for."""
        plain = _load_model(self.directory, self.config, quantized=False)
        if self.config.quantization is not None:
            weights = plain.state_dict()
            for name, module in self.causal_lm.named_modules():
                packed = getattr(module, "weight", None)
                if type(packed).__name__ in ("Params4bit", "Int8Params"):
                    place = name.removesuffix(".base_layer") + ".weight"
                    weights[place].copy_(
                        dequantize_bnb_weight(cast(nn.Parameter, packed), getattr(module, "state", None))
                    )
        return plain

    def export_adapter(self, directory: Path) -> None:
        """Write the adapter as ``peft`` and vLLM read it."""
        if not isinstance(self.model, PeftModel):
            raise ConfigError("There is no adapter to export: model.policy.lora is null. Export the merged model.")
        self.model.save_pretrained(str(directory), safe_serialization=True, state_dict=self._model_weights())
        settings = directory / "adapter_config.json"
        written = json.loads(settings.read_text())
        # Sets serialise in hash order; a sorted file makes equal adapters equal bytes.
        written |= {
            k: sorted(v) for k, v in written.items() if isinstance(v, list) and all(isinstance(i, str) for i in v)
        }
        settings.write_text(json.dumps(written, indent=2, sort_keys=True))

    def export_merged(self, directory: Path) -> None:
        """Write an ordinary model directory with the adapter folded into a fresh copy of the base weights."""
        if isinstance(self.model, PeftModel):
            # Folding in place and out again would round the weights we go on training; so a copy is folded.
            copy = get_peft_model(self._plain_base(), self.model.peft_config["default"])
            copy.load_state_dict(self._model_weights(), strict=False)
            merged = cast(PreTrainedModel, copy.merge_and_unload())  # pyright: ignore[reportCallIssue]
        elif self._gathered is not None:
            merged = self._plain_base()
            merged.load_state_dict(self._model_weights(), strict=False)
        else:
            merged = self.causal_lm
        _write(merged, directory)
        self.tokenizer.save_pretrained(str(directory))

    def _model_weights(self) -> dict[str, Tensor]:
        """What training changes in the model, the value head left out, by the model's own names."""
        prefix = "model."
        state = self.trainable_state().items()
        return {name.removeprefix(prefix): value.detach().cpu() for name, value in state if name.startswith(prefix)}


def _write(model: PreTrainedModel, directory: Path) -> None:
    # transformers writes on rank 0 alone, but every rank has an engine, and a folder, of its own.
    cast(Any, model).should_save_on_this_rank = lambda is_main_process: is_main_process
    model.save_pretrained(str(directory), safe_serialization=True)


def _value_head(model: PreTrainedModel) -> nn.Linear:
    width = cast(Tensor, model.get_input_embeddings().weight).shape[-1]
    head = nn.Linear(width, 1, dtype=torch.float64 if model.dtype == torch.float64 else torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _with_adapter(model: PreTrainedModel, config: PolicyConfig) -> PreTrainedModel | PeftModel:
    if config.adapter is not None:
        try:
            return PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"model.policy.adapter: no adapter could be loaded from {config.adapter!r}: {error}"
            ) from error
    return model if config.lora is None else cast(PeftModel, get_peft_model(model, config.lora))


def _load_tokenizer(directory: str, config: PolicyConfig) -> Tokenizer:
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.policy.base: no tokenizer could be loaded from {directory!r}: {error}") from error


def _load_model(directory: str, config: PolicyConfig, quantized: bool = True) -> PreTrainedModel:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=config.torch_dtype,
            attn_implementation=config.attention,
            quantization_config=config.quantization if quantized else None,
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.policy.base: no model could be loaded from {directory!r}: {error}") from error
    return cast(PreTrainedModel, model)
