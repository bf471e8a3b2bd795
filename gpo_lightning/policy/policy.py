"""The policy: a Hugging Face causal LM with LoRA adapters. The only place that sees hidden states and logits."""

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor, nn
from transformers import PreTrainedModel

from gpo_lightning.errors import ConfigError
from gpo_lightning.leftovers import own_folder
from gpo_lightning.policy.adapters import check_computes, parts_tied_embeddings, untie
from gpo_lightning.policy.base import context_of, load_model, load_tokenizer, takes_positions
from gpo_lightning.policy.config import PolicyConfig, no_adapter
from gpo_lightning.policy.embedded import resolve_base
from gpo_lightning.policy.head import find_head
from gpo_lightning.policy.intact import check_adapter
from gpo_lightning.policy.logprobs import Scored, picked_logprobs, token_logprobs
from gpo_lightning.policy.lora_settings import check_names, check_patterns
from gpo_lightning.policy.modes import recompute, repeated_layers, still_base
from gpo_lightning.policy.packing import Layout, pack
from gpo_lightning.policy.sharding import gathered, shard, take_over
from gpo_lightning.policy.tree_check import find_packing, tree_inputs
from gpo_lightning.problems.chat_template import turn_end

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_LOG = logging.getLogger(__name__)


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
        self.tokenizer = load_tokenizer(config)
        model = load_model(config)
        self.head = find_head(model)
        """``None`` where the model's own forward must be asked for logits, which then stand whole in memory."""
        self.packing = find_packing(model, self.head) if config.packing == "tree" else None
        """How rows that begin alike are packed; ``None`` where each is computed by itself."""
        self.unties = (lora := config.adapter_settings) is not None and parts_tied_embeddings(lora, model)
        """Whether the trained model has two embeddings where the base model has one."""
        if config.gradient_checkpointing:
            recompute(repeated_layers(model))
        self.value_head = _value_head(model) if values else None
        self.model: PreTrainedModel | PeftModel = _with_adapter(model, config)
        if isinstance(self.model, PeftModel):
            check_computes(self.model)
        self._gathered: dict[str, Tensor] | None = None
        self._copy: list[Policy] | None = None  # in a list, for it is no part of this module
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As of any module; but the base model has the noise of training only where ``dropout`` asks for it."""
        super().train(mode)
        if mode and not self.config.dropout:
            still_base(self.model)
        return self

    @property
    def noisy(self) -> bool:
        """Whether a pass in training draws: dropout, of the adapter or, where it is asked for, of the base model."""
        settings = self.lora
        return self.config.dropout or (settings is not None and settings.lora_dropout > 0)

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
        """Ids that end a response, in no order that means anything."""
        model, text = self.causal_lm, self.causal_lm.config.get_text_config(decoder=True)
        named = (getattr(model.generation_config, "eos_token_id", None), getattr(text, "eos_token_id", None))
        listed = [id for ids in named for id in cast(list[Any], ids if isinstance(ids, list) else [ids])]
        known = {int(id) for id in (*listed, cast(Any, self.tokenizer.eos_token_id)) if id is not None}
        known.update(turn_end(self.tokenizer, known)[-1:])
        if not known:
            raise ConfigError(
                f"model.policy.base: nothing says which token ends a response of {self.config.base!r}. Name it as "
                "`eos_token_id` in its generation_config.json."
            )
        return tuple(sorted(known))

    @property
    def pad_id(self) -> int:
        """Stands where there is no token; never read."""
        named = (self.tokenizer.pad_token_id, getattr(self.causal_lm.config, "pad_token_id", None), self.start_id)
        return next(int(cast(Any, id)) for id in named if id is not None)

    @property
    def start_id(self) -> int:
        """A token after which a text may begin."""
        named = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.eos_ids[0])
        return next(int(cast(Any, id)) for id in named if id is not None)

    @property
    def context(self) -> int:
        """Most tokens the base model can attend to."""
        return context_of(self.causal_lm.config)

    @property
    def vocabulary(self) -> int:
        """Tokens the base model has embeddings for."""
        return cast(Tensor, self.causal_lm.get_input_embeddings().weight).shape[0]

    def logprobs(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probability of each masked token given those before it.

        Where no gradients are computed, neither the base model nor the adapter has dropout.

        Args:
            input_ids: ``[R, T]`` prompt and response, padded on either side.
            attention_mask: ``[R, T]`` 1 for tokens, 0 for padding.
            mask: ``[R, T]`` 1 where a log-probability is wanted; must be 0 in column 0.
            temperature: divides the logits, as in sampling.

        Returns:
            ``[R, T]`` float32 (float64 for a float64 model); 0 outside ``mask``.
        """
        scored = self._score(input_ids, attention_mask, mask, temperature)
        return scored.spread(scored.logprobs)

    def logprobs_and_values(
        self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`logprobs`, and the value head's estimate before each masked token, ``[R, T]``, in one pass."""
        if self.value_head is None:
            raise ConfigError("This policy has no value head.")
        scored = self._score(input_ids, attention_mask, mask, temperature)
        values = self.value_head(scored.states.to(self.value_head.weight.dtype)).squeeze(-1)
        return scored.spread(scored.logprobs), scored.spread(values)

    def _score(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float) -> Scored:
        tree = None if self.packing is None else pack(input_ids, attention_mask, self.packing)
        if tree is None:
            layout, inputs = Layout.of(input_ids), self._inputs(input_ids, attention_mask)
        else:
            layout = tree = tree.to(input_ids.device)
            inputs = tree_inputs(tree, self.causal_lm)
        wanted = mask.bool()
        places, back = layout.places[wanted].unique(return_inverse=True)
        before, targets = layout.parents[places], layout.tokens.flatten()[places]
        head = self.head
        with self.still() if not torch.is_grad_enabled() else nullcontext():
            if head is not None:
                states = cast(Tensor, head.body(**inputs).last_hidden_state).flatten(0, 1)[before]
                chosen = token_logprobs(
                    states, targets, head.at(temperature), self.config.logit_chunk or head.chunk, head.frozen
                )
            else:
                output = self.causal_lm(**inputs, output_hidden_states=True)
                states = cast(Tensor, output.hidden_states[-1]).flatten(0, 1)[before]
                chosen = picked_logprobs(output.logits.flatten(0, 1)[before] / temperature, targets)
        return Scored(chosen, states, wanted, back)

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        # Models count positions from the first column, each in a way of its own; only padding before it needs ours.
        if not bool(attention_mask[:, 0].all()) and takes_positions(self.causal_lm):
            inputs["position_ids"] = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return inputs

    @contextmanager
    def still(self) -> Generator[None]:
        """Within: no noise; that is eval mode, which takes a while to go into, unless there is none anyway."""
        if not self.training or not self.noisy:
            yield
            return
        self.eval()
        try:
            yield
        finally:
            self.train()

    @contextmanager
    def reference(self) -> Generator[None]:
        """Within: this object computes as the reference policy, without gradients."""
        self.config.check_reference("The loss")
        with cast(PeftModel, self.model).disable_adapter(), torch.no_grad():
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
        return self if self._gathered is None else self.own_copy()

    def own_copy(self) -> "Policy":
        """A copy with the weights of now, or of the last :meth:`gather`; it stays as it is while this one learns."""
        if self._copy is None:
            with torch.random.fork_rng(devices=[]):
                self._copy = [Policy(self.config, values=self.value_head is not None).eval()]
        take_over(self._copy[0], self, self.trainable_state())
        return self._copy[0]

    @cached_property
    def engine_directory(self) -> str:
        """The base model as an engine should serve it: if quantised, the weights really multiplied by."""
        if self.config.quantization is None and not self.unties:
            return self.directory
        directory = tempfile.mkdtemp(dir=own_folder("gpo-base"))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        _write(self._plain_base(), Path(directory))
        self.tokenizer.save_pretrained(directory)
        return directory

    def _plain_base(self) -> PreTrainedModel:
        """A fresh copy of the base model in full precision, with the values the quantised weights stand for."""
        plain = load_model(self.config, quantized=False)
        if self.config.quantization is not None:
            weights = plain.state_dict()
            for name, module in self.causal_lm.named_modules():
                packed = getattr(module, "weight", None)
                if type(packed).__name__ in ("Params4bit", "Int8Params"):
                    place = name.removesuffix(".base_layer") + ".weight"
                    weights[place].copy_(
                        dequantize_bnb_weight(cast(nn.Parameter, packed), getattr(module, "state", None))
                    )
        if self.unties:
            untie(plain)
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
            try:
                merged = cast(PreTrainedModel, copy.merge_and_unload())  # pyright: ignore[reportCallIssue]
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"model.policy.lora: this adapter cannot be merged: {error}") from error
        elif self._gathered is not None:
            merged = self._plain_base()
            merged.load_state_dict(self._model_weights(), strict=False)
        else:
            merged = self.causal_lm
        _write(merged, directory)
        self.tokenizer.save_pretrained(str(directory))

    def _model_weights(self) -> dict[str, Tensor]:
        """What training changes in the model, the value head left out, by all names the model has for it."""
        prefix, state = "model.", self.trainable_state()
        named = {parameter: name for name, parameter in self.named_parameters()}
        # Of weights that are shared, parameters and state have one name, files of peft and transformers each of them.
        return {
            name.removeprefix(prefix): state[named[parameter]].detach().cpu()
            for name, parameter in self.named_parameters(remove_duplicate=False)
            if name.startswith(prefix) and named[parameter] in state
        }


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


def _note_another_base(config: PolicyConfig) -> None:
    """Weights of an adapter mean something beside those alone that they were trained on; folders may be moved."""
    settings = config.adapter_settings
    trained_on = None if settings is None else settings.base_model_name_or_path
    if trained_on and Path(trained_on).name not in (Path(config.base).name, Path(resolve_base(config.base)).name):
        _LOG.warning(
            "model.policy.adapter: %r says that it was trained on %r; model.policy.base is %r. Of another model it is "
            "noise.", config.adapter, trained_on, config.base
        )  # fmt: skip


def _with_adapter(model: PreTrainedModel, config: PolicyConfig) -> PreTrainedModel | PeftModel:
    if config.adapter is not None:
        _note_another_base(config)
        try:
            adapted = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
        except Exception as error:  # damaged files, and files of somebody else's, make peft and torch fail in any way
            raise no_adapter(config.adapter, error) from error
        check_adapter(adapted, config.adapter)
        return adapted
    if config.lora is None:
        return model
    check_names(config.lora, model)
    try:
        # peft writes into the settings what it makes of them for this model.
        adapted = cast(PeftModel, get_peft_model(model, deepcopy(config.lora)))
    except Exception as error:  # of peft, which fails in many ways at what it does not know
        raise ConfigError(
            f"model.policy.lora: {type(model).__name__} cannot have this adapter: {error} Change target_modules, or "
            "list what to leave alone in exclude_modules."
        ) from error
    tuner = cast(Any, adapted.base_model)
    check_patterns(config.lora, [*tuner.targeted_module_names, *tuner.targeted_parameter_names])
    return adapted
