"""Every setting of a run: frozen models, unknown keys refused, presets as TOML files in `configs/`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from hardgnn.errors import HardGNNError, nearest, shown
from hardgnn.metrics import FIGURE, JUDGED_AT, check_choice
from hardgnn.storage.texts import read_toml

LARGEST = 2**31 - 1  # of a whole number: what counts items, users or steps fits
A_CONFIG = "a TOML file of settings"
LONGEST_VALUE = 60  # characters of a value that a sentence repeats


def search(*choices: int, low: float = 0, high: float = 0, log: bool = False) -> dict[str, Any]:
    """Where `hardgnn sweep --trials` looks for a field's value: among `choices`, or from `low` to `high`."""
    return {"search": {"choices": list(choices)} if choices else {"low": low, "high": high, "log": log}}


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, int) and value > LARGEST and field.field_name != "seed":
            raise ValueError(f"Input should be at most {LARGEST:,}")
        return value


class ModelConfig(Section):
    """The network (specification, section 2)."""

    dim: int = Field(64, ge=1, json_schema_extra=search(32, 64, 128))
    """Embedding size d; a multiple of `heads`."""
    intervals: int = Field(5, ge=1, le=64, json_schema_extra=search(low=2, high=12))
    """Number T of time intervals, one graph each."""
    interval_cut: Literal["width", "count"] = "width"
    """Intervals of equal width in time, or with equally many interactions."""
    layers: int = Field(2, ge=0, le=8, json_schema_extra=search(low=1, high=4))
    """Graph layers L; 0 is the ablation without graphs."""
    layer_combination: Literal["sum", "concat"] = "sum"
    """Sum of layers 0..L, or (the paper) layers 1..L side by side and projected back to d, which costs two matrices
    and loses the embedding itself."""
    norm: Literal["none", "sym"] = "none"
    """Plain sum over neighbours, or symmetric normalisation by degrees as in LightGCN, which the paper names; the
    released code computes it and never reads it."""
    edge_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of edges dropped per training step; the released code drops edges from values that it never reads."""
    interval_encoder: Literal["gru", "lstm", "sum"] = "gru"
    """Recurrent network over intervals, followed by attention: the paper's GRU or the released code's LSTM, which
    costs a third more; `sum` is the ablation without both."""
    forget_bias: float = 0.0
    """First value of the forget gate's bias (`lstm` only): 1 in the released code; a GRU has no such gate."""
    interval_sharing: Literal["own", "shared"] = "own"
    """A recurrent network for users and one for items, or one for both (the SelfGNN code)."""
    interval_norm: Literal["vector", "states"] = "vector"
    """LayerNorm in front of the attention over intervals: over each state's d numbers, or over the T states of a node
    together (the SelfGNN code), which ties a node's scale in one interval to all others."""
    interval_pooling: Literal["mean", "sum"] = "mean"
    """How the T states become one vector: the mean, or (the paper) the sum, T times as large."""
    heads: int = Field(4, ge=1)
    """Attention heads, over intervals and over the window."""
    attention_projection: bool = True
    """Whether attention ends with an output projection (the SelfGNN code has none)."""
    layer_norm: bool = True
    """LayerNorm in front of each attention; the paper writes none, and without it scores grow without bound."""
    norm_epsilon: float = Field(1e-3, gt=0)
    """The epsilon inside LayerNorm; 1e-3 is the released HardGNN's, 1e-12 the SelfGNN code's."""
    dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra=search(low=0.0, high=0.7))
    """Dropout on the recurrent outputs; the paper writes none."""
    window: int = Field(200, ge=1, json_schema_extra=search(50, 100, 200))
    """The most recent M items that the sequence encoder sees."""
    sequence: Literal["full", "pooled", "causal", "none"] = "full"
    """Attention over M positions; over their sum as one token, so that it sees no order (the released code); a causal
    transformer, whose every position sees what came before it (`best`); or no sequence encoder."""
    sequence_layers: int = Field(2, ge=0, le=8, json_schema_extra=search(low=1, high=4))
    """Attention layers over the window."""
    sequence_pooling: Literal["sum", "mean", "last"] = "last"
    """How the window's positions become one vector (`full` only); the paper's sum over 200 of them hardly learns."""
    sequence_activation: Literal["leaky", "none"] = "leaky"
    """Whether the sequence vector passes the LeakyReLU before the score, as in the released code (the paper: not)."""
    leaky_slope: float = Field(0.5, ge=0, le=1)
    """Slope of every LeakyReLU below zero."""
    user_term: bool = True
    """Whether the score has the user's long-term vector, or the sequence vector alone (`best`)."""


class TransitionsConfig(Section):
    """Item-to-item transitions in the score (docs/model.md); needs `train.objective = "positions"`."""

    use: bool = False
    """Whether `β log(ε + x)` is added to the score, x the transitions from the user's items to the one scored."""
    forward: float = Field(1.0, gt=0)
    """First value of the weight of the directed co-occurrence beside the cosine similarity of items; learned."""
    steps: int = Field(5, ge=1)
    """Distance up to which an item that comes after another counts as following it, with weight 1 / distance."""
    backward: float = Field(0.5, ge=0, json_schema_extra=search(low=0.0, high=1.0))
    """Weight of an item that comes before another, relative to one that follows it at the same distance."""
    neighbours: int = Field(2000, ge=1)
    """Most similar items that the cosine keeps per item; bounds the memory of large catalogues."""
    decay: float = Field(0.8, gt=0, lt=1)
    """First value of the weight of an item relative to the one after it in the user's history; learned."""
    epsilon: float = Field(0.03, gt=0)
    """First value of ε, what an item without transitions has; learned."""
    popularity: float = Field(0.5, ge=0)
    """First value of the power of an item's training count; learned. Transitions are divided by the root of the count,
    so a half gives that back."""
    rate: float = Field(10.0, gt=0, json_schema_extra=search(low=1, high=30, log=True))
    """The five learned numbers take steps of so many times `train.lr`. Adam's steps are about as long whatever the
    gradient, and these have further to go than the entries of a table."""


class SelfAugmentedConfig(Section):
    """The self-augmented loss: short-term against long-term taste."""

    weight: float = Field(1e-6, ge=0, json_schema_extra=search(low=1e-7, high=1e-3, log=True))
    """Its coefficient in the total loss; 0 is the ablation without it."""
    pairs: int = Field(40, ge=1)
    """Edge pairs per user and interval at most; half the user's edges there if that is fewer."""
    pairing: Literal["random", "interleaved"] = "random"
    """Two random observed edges, or the released code's slices of a list in user order, which pairs the same users
    again and again."""
    dim: int = Field(32, ge=1)
    """Hidden size of the network behind the user weight w."""
    user_weight: Literal["concat", "sum"] = "concat"
    """Input of that network: the three vectors side by side, or (the paper) added up, which cannot tell them apart."""


class HardConfig(Section):
    """Hard negatives and the contrastive loss (specification, section 3)."""

    k: int = Field(0, ge=0, json_schema_extra=search(low=1, high=20))
    """Number K of hard negatives per user; 0 is SelfGNN."""
    weight: float = Field(0.0, ge=0, json_schema_extra=search(low=1e-3, high=1.0, log=True))
    """λ, the coefficient of InfoNCE; 0 is SelfGNN."""
    temperature: float = Field(0.1, gt=0, json_schema_extra=search(low=0.05, high=1.0, log=True))
    """τ of InfoNCE."""
    rank_by: Literal["user", "positive"] = "user"
    """Hardest by cosine to the user's sequence vector, or to the positive item."""
    query: Literal["window", "recent"] = "window"
    """The user's vector of `rank_by` = user: of this step's window, or the released code's: of the last M training
    items (the positive among them) in the steps that `refresh`, the mean of the last five items' vectors in others."""
    refresh: int = Field(1, ge=1)
    """Steps between two computations of the item vectors that the negatives are searched in; each epoch starts with
    one. The released code's 50 is more than its epochs have steps, so that it searches in stale vectors."""
    used_in: Literal["infonce", "hinge", "none"] = "infonce"
    """The loss that the hardest negatives enter: InfoNCE, or (the released code) the hinge, in the place of K of each
    user's pairs, while InfoNCE has `shared_negatives`: then the contrast never sees a hard negative. With `none`
    InfoNCE has those and nothing is hard: the ablation without hard negatives."""
    searched: Literal["items", "candidates"] = "items"
    """Where the hardest are searched: among all items, or among the candidates of this step (`train.candidates`, a
    random part of the items), where the very nearest, often false negatives, are mostly absent."""
    share: float = Field(0.2, gt=0, le=1)
    """Share of all items that the hardest are searched among at most (`searched` = candidates). On a small catalogue
    the nearest of most items would be what the user takes next."""
    shared_negatives: int = Field(50, ge=1)
    """Negatives of the whole batch, drawn at random and shared by all its users (`used_in` = hinge or none)."""

    @property
    def active(self) -> bool:
        """Whether anything beyond SelfGNN is computed."""
        return self.k > 0 and self.weight > 0


class TrainConfig(Section):
    """The optimisation and the choice of the epoch."""

    epochs: int = Field(150, ge=1)
    """Epochs at most."""
    patience: int = Field(10, ge=0)
    """Validations without improvement before training stops; 0 never stops early."""
    eval_every: int = Field(3, ge=1)
    """Epochs between two validations."""
    metric: str = Field(JUDGED_AT, pattern=f"^{FIGURE}$")
    """The validation figure that picks the epoch: a metric per user and a cut-off, as in mrr@10 (docs/metrics.md)."""
    protocol: Literal["full", "sampled-999"] = "full"
    """The candidates that validation ranks."""
    objective: Literal["pairs", "positions"] = "pairs"
    """One positive per user and epoch against negatives one by one, or (`best`) the next item at every position of the
    window against all candidates at once."""
    candidates: int = Field(1024, ge=1)
    """Random items that share the softmax with the next one (`positions` only), the same for a whole step; from as
    many as there are items on, all."""
    candidate_popularity: float = Field(0.5, ge=0, le=1, json_schema_extra=search(low=0.0, high=1.0))
    """They are drawn in proportion to their training count to this power; 0 draws all alike. The loss takes it back
    (log-Q correction)."""
    batch_positions: int = Field(2048, ge=1)
    """Positions per step (`positions` only), about."""
    recent_share: float = Field(0.5, ge=0, le=1)
    """Share of windows that end with the user's last training item where the history is longer than the window; the
    others end anywhere (`positions` only)."""
    batch_users: int = Field(512, ge=1)
    """Users per step."""
    users_per_epoch: int = Field(10_000, ge=1)
    """Users drawn per epoch at most."""
    pairs_per_user: int = Field(40, ge=1)
    """(positive, negative) pairs per user and epoch; fewer for users with fewer training items."""
    pred_num: int = Field(5, ge=0, json_schema_extra=search(low=0, high=20))
    """The positive is one of the last pred_num + 1 training items, never one of the first three."""
    hinge: Literal["mean", "sum"] = "mean"
    """The recommendation loss is the mean over pairs, or (the paper) their sum, beside which other terms vanish."""
    negatives_avoid: Literal["train", "all"] = "train"
    """Items that are never a user's negative: those of the training part, or of all parts. The latter LEAKS: what is
    never pushed down is the target. It is the released code's, and needs --allow-leaks."""
    choose_on: Literal["valid", "test"] = "valid"
    """The part whose `metric` picks the epoch. `test` LEAKS: it reports the best of many looks at the test part. It is
    the released code's, and needs --allow-leaks."""
    lr: float = Field(1e-3, gt=0, json_schema_extra=search(low=3e-4, high=1e-2, log=True))
    """Adam's learning rate in the first epoch."""
    lr_decay: float = Field(0.96, gt=0, le=1)
    """Factor on the learning rate per epoch."""
    l2: float = Field(1e-2, ge=0, json_schema_extra=search(low=1e-4, high=1e-1, log=True))
    """Coefficient of the squared norm of the parameters in `l2_over`."""
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=search(low=1e-2, high=10, log=True))
    """AdamW's decoupled decay of all but single numbers; takes the place of `l2`, which must be 0."""
    average_epochs: float = Field(0.0, ge=0, json_schema_extra=search(low=1, high=10, log=True))
    """Epochs that the moving average of the weights looks back: per step the past weighs 1 − 1 / (average_epochs ·
    steps of an epoch). Validation ranks, and the run keeps, the average; 0 keeps the weights as they are."""
    l2_over: Literal["embeddings", "all"] = "embeddings"
    """Embeddings, positions and the weights behind the user weight, or (the paper) all parameters. The released code
    adds 25 weights that feed nothing, which changes no other parameter."""


class RunConfig(Section):
    """What concerns the machine and not the model."""

    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Seed of initial weights, batches, negatives and dropout."""
    threads: int = Field(0, ge=0, le=1024)
    """Threads for torch; 0 takes as many as there are processors that this process may use."""


class Config(Section):
    """All settings of one training run."""

    model: ModelConfig = ModelConfig()
    ssl: SelfAugmentedConfig = SelfAugmentedConfig()
    hard: HardConfig = HardConfig()
    transitions: TransitionsConfig = TransitionsConfig()
    train: TrainConfig = TrainConfig()
    run: RunConfig = RunConfig()

    def to_toml(self) -> str:
        """The config as TOML, one table per section."""
        return (
            "\n\n".join(
                f"[{section}]\n" + "\n".join(f"{key} = {_toml_value(value)}" for key, value in fields.items())
                for section, fields in self.model_dump().items()
            )
            + "\n"
        )


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def leaks(config: Config) -> list[str]:
    """What in `config` lets the test part steer training or the choice of the epoch, in words; empty if nothing."""
    found = []
    if config.train.negatives_avoid == "all":
        found.append("negatives avoid the validation and test items (train.negatives_avoid=all)")
    if config.train.choose_on == "test":
        found.append("the epoch is chosen on the test part (train.choose_on=test)")
    return found


def known_keys() -> list[str]:
    """Every key of the config, as `section.field`."""
    return [
        f"{name}.{key}"
        for name, section in Config.model_fields.items()
        for key in section.annotation.model_fields  # type: ignore[union-attr]
    ]


IDLE = {
    "positions": ("model.intervals", "model.layers", "ssl.weight", "train.pred_num", "train.l2"),
    "pairs": ("train.weight_decay", "train.candidate_popularity", "transitions.backward", "transitions.rate"),
}
"""By `train.objective`, the settings that a search leaves as they are: it does not have them, or leaves them out."""


def search_space(config: Config) -> dict[str, dict[str, Any]]:
    """The declared search ranges of what `config` uses, by key: `choices`, or `low`, `high` and `log`."""
    declared = {
        f"{name}.{key}": field.json_schema_extra["search"]
        for name, section in Config.model_fields.items()
        for key, field in section.annotation.model_fields.items()  # type: ignore[union-attr]
        if field.json_schema_extra and "search" in field.json_schema_extra
    }
    return {key: range_ for key, range_ in declared.items() if key not in IDLE[config.train.objective]}


def presets() -> dict[str, Path]:
    """The presets by name."""
    folder = Path(str(resources.files("hardgnn"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def resolve(
    preset: str | None = None,
    file: str | Path | None = None,
    settings: Sequence[str] = (),
    seed: int | None = None,
) -> Config:
    """The config after precedence: `settings` ("model.dim=64") over `file` over `preset` over defaults.

    Presets may be stacked, the later over the earlier: "released+gowalla".

    Raises:
        HardGNNError: an unknown preset or key (names the nearest), or a value that does not fit.
    """
    document: dict[str, dict[str, Any]] = {}
    if preset is not None:
        known = presets()
        for name in preset.split("+"):
            if name not in known:
                raise HardGNNError(f"unknown preset '{_cut(name)}': {nearest(name, known)}")
            _merge(document, read_toml(known[name], A_CONFIG), str(known[name].name))
    if file is not None:
        _merge(document, read_toml(Path(file), A_CONFIG), str(file))
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or key.count(".") != 1:
            raise HardGNNError(f"--set {_cut(setting)}: expected section.field=value, as in model.dim=64")
        section, field = key.strip().split(".")
        _merge(document, {section: {field: _parse(text)}}, f"--set {_cut(setting)}")
    if seed is not None:
        document.setdefault("run", {})["seed"] = seed
    return _chosen_by_a_metric(build(document, "config"), "config")


def with_options(config: Config, options: dict[str, dict[str, Any]]) -> Config:
    """`config` with some settings replaced, by section.

    Raises:
        HardGNNError: as `build`.
    """
    document = config.model_dump()
    _merge(document, options, "options")
    return _chosen_by_a_metric(build(document, "options"), "options")


def _chosen_by_a_metric(config: Config, where: str) -> Config:
    """The config of a run to be trained. A run that was trained is read without the package its metric came from.

    Raises:
        HardGNNError: `train.metric` is unknown, naming the nearest, or of whole lists.
    """
    try:
        check_choice(config.train.metric)
    except HardGNNError as error:
        raise HardGNNError(f"{where}: train.metric: {error}") from error
    return config


def build(document: dict[str, Any], where: str) -> Config:
    """The checked config from plain dictionaries.

    Raises:
        HardGNNError: names the key, what was expected and the value it got.
    """
    _merge({}, document, where)
    try:
        config = Config.model_validate(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        expected = expected.replace("String should match pattern", "expected text that matches")
        raise HardGNNError(f"{where}: {key}: {expected}, got {_repeated(first['input'])}") from None
    for refused, sentence in _conflicts(config):
        if refused:
            raise HardGNNError(f"{where}: {sentence}")
    return config


def _conflicts(config: Config) -> list[tuple[bool, str]]:
    """What settings cannot stand together, each with the sentence that says so."""
    model, hard, train = config.model, config.hard, config.train
    positions = train.objective == "positions"
    return [
        (
            model.dim % model.heads > 0,
            f"model.dim must be a multiple of model.heads, got {model.dim} and {model.heads}",
        ),
        (positions and model.sequence != "causal", "train.objective=positions needs model.sequence=causal"),
        (model.sequence == "none" and not model.user_term, "model.user_term=false needs model.sequence, not none"),
        (config.transitions.use and not positions, "transitions.use=true needs train.objective=positions"),
        (positions and config.ssl.weight > 0, "train.objective=positions has no self-augmented loss: set ssl.weight=0"),
        (
            positions
            and hard.active
            and (hard.searched, hard.rank_by, hard.used_in) != ("candidates", "user", "infonce"),
            "train.objective=positions needs hard.searched=candidates, hard.rank_by=user and hard.used_in=infonce",
        ),
        (hard.searched == "candidates" and not positions, "hard.searched=candidates needs train.objective=positions"),
        (
            train.weight_decay > 0 and train.l2 > 0,
            "train.weight_decay takes the place of train.l2: set one of them to 0",
        ),
    ]


def load(path: Path) -> Config:
    """The config saved in a run folder.

    Raises:
        HardGNNError: it is missing, no TOML, or holds a setting that cannot be.
    """
    return build(read_toml(path, A_CONFIG), str(path))


def _merge(target: dict[str, dict[str, Any]], source: dict[str, Any], where: str) -> None:
    """Puts `source` over `target`, refusing keys that no config has."""
    known = known_keys()
    for section, fields in source.items():
        if section not in Config.model_fields:
            raise HardGNNError(f"{where}: unknown key '{_cut(str(section))}': {nearest(section, Config.model_fields)}")
        if not isinstance(fields, dict):
            raise HardGNNError(f"{where}: '{section}' must be a table of settings, got {_repeated(fields)}")
        for field in fields:
            key = f"{section}.{field}"
            if key not in known:
                inside = [name for name in known if name.startswith(f"{section}.")]
                raise HardGNNError(f"{where}: unknown key '{_cut(key)}': {nearest(key, inside)}")
        target.setdefault(section, {}).update(fields)


def _parse(text: str) -> Any:
    """A value from the command line: TOML where it parses, a plain string otherwise."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text  # a line break in it would begin another key


def _repeated(value: Any) -> str:
    """A value as a sentence repeats it."""
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"a {type(value).__name__} that is too large"


def _cut(text: str) -> str:
    return shown(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")
