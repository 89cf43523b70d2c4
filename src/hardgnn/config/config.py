"""All settings of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from hardgnn.config.sections import Chosen, Kinds, PartSettings, Section, search
from hardgnn.metrics import FIGURE, MAIN_AT
from hardgnn.parts import MODELS, NAME, OBJECTIVES


class AdamSettings(Section):
    """Adam, with the gradient 2 · l2 · θ of an L2 term."""

    kind: Literal["adam"] = "adam"
    l2: float = Field(1e-2, ge=0, json_schema_extra=search(low=1e-4, high=1e-1, log=True))
    """Coefficient of the squared norm of the parameters in `l2_over`."""
    l2_over: Literal["embeddings", "all"] = "embeddings"
    """Embeddings, positions and the weights behind the user weight, or (the paper) all parameters. The released code
    adds 25 weights that feed nothing, which changes no other parameter."""


class AdamWSettings(Section):
    """AdamW."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(1.0, ge=0, json_schema_extra=search(low=1e-2, high=10, log=True))
    """Decoupled decay of all parameters but single numbers."""


class TrainSettings(Section):
    """How a network is trained, and which epoch is kept."""

    epochs: int = Field(150, ge=1)
    """Epochs at most."""
    patience: int = Field(10, ge=0)
    """Validations without improvement before training stops; 0 never stops early."""
    eval_every: int = Field(3, ge=1)
    """Epochs between two validations."""
    metric: str = Field(MAIN_AT, pattern=f"^{FIGURE}$")
    """The validation figure that picks the epoch: a metric per user and a cut-off, as in mrr@10 (docs/metrics.md)."""
    choose_on: Literal["valid", "test"] = "valid"
    """The part whose `metric` picks the epoch. `test` LEAKS: it reports the best of many looks at the test part. It is
    the released code's, and needs --allow-leaks."""
    lr: float = Field(1e-3, gt=0, json_schema_extra=search(low=3e-4, high=1e-2, log=True))
    """The learning rate in the first epoch."""
    lr_decay: float = Field(0.96, gt=0, le=1)
    """Factor on the learning rate per epoch."""
    average_epochs: float = Field(0.0, ge=0, json_schema_extra=search(low=1, high=10, log=True))
    """Epochs that the moving average of the weights looks back: per step the past weighs 1 − 1 / (average_epochs ·
    steps of an epoch). Validation ranks, and the run keeps, the average; 0 keeps the weights as they are."""
    shards: int = Field(1, ge=1, le=1024)
    """Parts that the users of a step are cut into, each with random numbers of its own. Processes share them out
    (docs/scale.md), so there is a multiple of as many; the weights depend on this and not on how many there are."""
    shard_tables: bool = False
    """Whether each of several processes has but a part of the rows of the item table, and of the edges of the
    transitions, for catalogues larger than a host (docs/scale.md). The weights are those of training without it."""
    callbacks: str = ""
    """Names of callbacks, as in a,b: the loggers tensorboard, mlflow and wandb, and your own (docs/extending.md)."""
    optimiser: Chosen({"adam": AdamSettings, "adamw": AdamWSettings}, "adam") = AdamSettings()  # type: ignore[valid-type]

    @field_validator("callbacks")
    @classmethod
    def _names(cls, value: str) -> str:
        if value and not all(NAME.fullmatch(name) for name in value.split(",")):
            raise ValueError("expected names such as a,b")
        return value

    @model_validator(mode="after")
    def _tables_by_rows(self) -> Self:
        if self.shard_tables and not isinstance(self.optimiser, AdamWSettings):
            raise ValueError(
                f"train.shard_tables: optimiser.kind={self.optimiser.kind} changes all rows in every step; "
                "set optimiser.kind=adamw"
            )
        return self

    def leaks(self) -> list[str]:
        """Whether the epoch is chosen on the test part."""
        return ["the epoch is chosen on the test part (train.choose_on=test)"] if self.choose_on == "test" else []


class RunSettings(Section):
    """What concerns the run and not the model."""

    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Seed of initial weights, batches, negatives and dropout."""
    learn_from: Literal["train", "train+valid"] = "train"
    """The part that is learnt from. With train+valid nothing is left to choose by: the last epoch is kept, and every
    setting must be given; `hardgnn train --refit RUN` takes both from a run that chose them."""
    protocol: Literal["full", "sampled-999", "full-last", "full-random", "full-successive"] = "full"
    """What every choice on validation is judged under: the targets asked for, and the candidates (docs/metrics.md)."""
    threads: int = Field(0, ge=0, le=1024)
    """Threads; 0 takes as many as there are processors that are free when a run begins, and goes on with."""
    device: str = "auto"
    """Where tensors live: auto (a GPU where there is one), cpu, cuda, cuda:N or mps."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Numbers of the network's products; bfloat16 where the device has it (docs/performance.md)."""

    @property
    def final(self) -> bool:
        """Whether nothing is left to choose by."""
        return self.learn_from != "train"

    @field_validator("device")
    @classmethod
    def _a_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ValueError("expected auto, cpu, cuda, cuda:N or mps")
        return value


class Config(Section):
    """All settings of one run; a model that is not trained in steps has neither `objective` nor `train`."""

    model: Annotated[SerializeAsAny[PartSettings], Kinds(MODELS, "selfgnn")]
    objective: Annotated[SerializeAsAny[PartSettings] | None, Kinds(OBJECTIVES, "pairwise")]
    train: TrainSettings | None
    run: RunSettings

    def sections(self) -> dict[str, Section]:
        """All groups of settings by name."""
        return dict(self.walk())

    def to_toml(self) -> str:
        """The config as TOML, one table per section."""
        tables = []
        for name, section in self.sections().items():
            lines = [f"{key} = {toml_value(value)}" for key, value in own_fields(section).items()]
            tables.append(f"[{name}]\n" + "\n".join(lines))
        return "\n\n".join(tables) + "\n"


def own_fields(section: Section) -> Mapping[str, Any]:
    """The settings of a section without the groups in it."""
    return {key: value for key in type(section).model_fields if not isinstance(value := getattr(section, key), Section)}


def toml_value(value: Any) -> str:
    """A setting's value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def leaks(config: Config) -> list[str]:
    """What in `config` lets the test part steer training or the choice of the epoch, in words; empty if nothing."""
    return [leak for section in config.sections().values() for leak in section.leaks()]


def search_space(config: Config) -> dict[str, dict[str, Any]]:
    """The declared search ranges of what `config` has, by key: `choices`, or `low`, `high` and `log`."""
    return {
        f"{name}.{key}": dict(field.json_schema_extra["search"])  # type: ignore[arg-type]
        for name, section in config.sections().items()
        for key, field in type(section).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and "search" in field.json_schema_extra
    }
