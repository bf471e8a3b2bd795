"""A trained policy as a folder that others can use: weights, tokenizer, and a card that says where it came from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import Estimate, Report

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy

_CARD = """---
{{ card_data }}
---

# {{ title }}

{{ what }} Trained with gpo_lightning.

| | |
|---|---|
{%- for name, said in facts.items() %}
| {{ name }} | {{ said }} |
{%- endfor %}

## Results
{% if results %}
| benchmark | before | after |
|---|---|---|
{%- for row in results %}
| {{ row | join(" | ") }} |
{%- endfor %}

Accuracy, with 95 % intervals over problems.
{% else %}
Not measured in this run.
{% endif %}
## Use

```python
{{ use }}
```
"""
_USE_ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("THIS")
tokenizer = AutoTokenizer.from_pretrained("THIS")"""
_USE_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS")
tokenizer = AutoTokenizer.from_pretrained("THIS")"""


@dataclass(frozen=True)
class Training:
    """How a policy was trained, for people.

    Args:
        method: in words.
        loss: class path.
        data: class path of the problem source.
        tokens: generated, by purpose; only asked where the run has kept no summary.
    """

    method: str
    loss: str
    data: str
    tokens: Mapping[str, int] = field(default_factory=dict[str, int])


def write_model(
    folder: Path, policy: "Policy", training: Training, run: Path | None = None, merged: bool = False
) -> None:
    """Write the adapter, or the whole model, with its tokenizer, chat template and model card.

    Args:
        folder: what is written.
        policy: what was trained; of a sharded one, as it was gathered last.
        training: how it was trained.
        run: folder of the run, which knows results and tokens; ``None`` where there is none.
        merged: fold the adapter into the base weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = merged or policy.lora is None
    base = base_name(policy)
    if whole:
        policy.export_merged(folder)
    else:
        policy.export_adapter(folder)
        _name_base(folder / "adapter_config.json", base)
        policy.tokenizer.save_pretrained(str(folder))
    (folder / "README.md").write_text(str(_card(base, training, run, whole)))


def base_name(policy: "Policy") -> str:
    """Where others find the base model: a hub id, or an absolute path."""
    directory = Path(policy.directory)
    return str(directory.resolve()) if directory.is_dir() else policy.directory


def _name_base(settings: Path, base: str) -> None:
    written = json.loads(settings.read_text())
    settings.write_text(json.dumps(written | {"base_model_name_or_path": base}, indent=2, sort_keys=True))


def _card(base: str, training: Training, run: Path | None, whole: bool) -> ModelCard:
    tokens: Mapping[str, int] = _read(run, "summary.json").get("tokens") or training.tokens
    loss = training.loss.rpartition(".")[2]
    facts = {
        "Base": f"`{base}`",
        "Method": training.method,
        "Loss": f"`{training.loss}`",
        "Data": f"`{training.data}`",
        "Tokens generated": ", ".join(f"{count:,} {purpose}" for purpose, count in tokens.items()) or "none",
    }
    try:
        results = _results(_read(run, "evaluation/results.json"))
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version's form
        results = []
    on_hub = not Path(base).is_absolute()
    card_data = ModelCardData(
        base_model=base if on_hub else None,
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation",
        tags=["gpo_lightning", "reinforcement-learning", loss.lower()],
    )
    name = Path(base).name
    what = f"{'A model' if whole else 'A LoRA adapter'} made from `{name}`."
    use = (_USE_MODEL if whole else _USE_ADAPTER) + ("" if whole else "  # of the base model, which must be there")
    return ModelCard.from_template(
        card_data, template_str=_CARD, title=f"{name}, {loss}", what=what, facts=facts, results=results,
        use=use,
    )  # fmt: skip


def _results(written: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Each benchmark's first and last accuracy in training."""
    rows: list[tuple[str, str, str]] = []
    for name, moments in written.items():
        reports = {int(moment): Report.from_dict(report) for moment, report in moments.items() if moment.isdigit()}
        if reports:
            before = str(_accuracy(reports, 0)) if 0 in reports else ""
            rows.append((name, before, str(_accuracy(reports, max(reports)))))
    return rows


def _accuracy(reports: Mapping[int, Report], moment: int) -> Estimate:
    return reports[moment].overall.accuracy


def _read(run: Path | None, name: str) -> dict[str, Any]:
    if run is None or not (run / name).is_file():
        return {}
    try:
        found: object = json.loads((run / name).read_text())
    except (ValueError, RecursionError):  # torn, or not ours: the card says less
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def push_model(folder: Path, name: str, private: bool = True, api: HfApi | None = None) -> str:
    """Upload a folder to the hub; returns the address of the commit.

    Args:
        folder: what :func:`write_model` wrote.
        name: ``owner/name`` on the hub.
        private: whether a repository that is made for it is private.
        api: the hub; ``None`` takes the one that ``HF_ENDPOINT`` names, with the token of ``hf auth login``.

    Raises:
        ConfigError: the hub refuses.
    """
    hub = api or HfApi()
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by gpo export"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"--push {name}: the hub refuses: {error}\nThe name is OWNER/NAME, and `hf auth login` (or HF_TOKEN) gives "
            f"the right to write there. What should go there is in {folder}."
        ) from error
