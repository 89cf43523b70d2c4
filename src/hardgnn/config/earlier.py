"""Keys of earlier versions, put under the names they have now."""

from __future__ import annotations

from typing import Any

from hardgnn.errors import HardGNNError

Tables = dict[str, dict[str, Any]]
RENAMED = {
    "model.sequence": "encoder.kind",
    "model.sequence_layers": "encoder.layers",
    "model.sequence_pooling": "encoder.pooling",
    "train.objective": "objective.kind",
    "train.batch_users": "objective.batch_users",
    "train.users_per_epoch": "objective.users_per_epoch",
    "train.pairs_per_user": "objective.pairs_per_user",
    "train.pred_num": "objective.pred_num",
    "train.batch_positions": "objective.batch_positions",
    "train.recent_share": "objective.recent_share",
    "train.hinge": "loss.reduction",
    "train.negatives_avoid": "sampler.avoid",
    "train.candidates": "sampler.candidates",
    "train.candidate_popularity": "sampler.popularity",
    "train.l2": "optimiser.l2",
    "train.l2_over": "optimiser.l2_over",
    "train.weight_decay": "optimiser.weight_decay",
    "train.protocol": "run.protocol",
}
VALUES = {
    "encoder.kind": {"full": "attention"},
    "objective.kind": {"pairs": "pairwise", "positions": "next-item"},
}
OF_PAIRS = ("rank_by", "query", "refresh", "used_in", "shared_negatives")
OF_INTERVALS = (
    *("intervals", "interval_cut", "layers", "layer_combination", "norm", "edge_dropout", "interval_encoder"),
    *("forget_bias", "interval_sharing", "interval_norm", "interval_pooling", "layer_norm", "norm_epsilon"),
    *("leaky_slope", "sequence_activation", "user_term"),
)


def translated(layer: Tables, document: Tables) -> Tables:
    """A layer of settings under the names of today; one whose keys are today's comes back as it is.

    A whole config of an earlier version has every field, those that changed nothing too: they are left out.
    """
    whole = is_whole(layer)
    if whole:
        layer = _without_idle(layer)
    found: Tables = {}
    for section, fields in layer.items():
        found.setdefault(section, {})
        for field, value in fields.items():
            home, name = RENAMED.get(f"{section}.{field}", f"{section}.{field}").split(".", 1)
            if isinstance(value, str):
                value = VALUES.get(f"{home}.{name}", {}).get(value, value)
            found.setdefault(home, {})[name] = value
    if whole:
        found["optimiser"]["kind"] = "adamw" if "weight_decay" in found["optimiser"] else "adam"
    _searched(found, document)
    found = {name: fields for name, fields in found.items() if fields or not layer.get(name)}
    return _optimiser(found, document)


def _searched(layer: Tables, before: Tables) -> None:
    """Takes out where hard negatives are searched: the objective says that now.

    Raises:
        HardGNNError: it says otherwise.
    """
    value = layer.get("hard", {}).pop("searched", None)
    if value is None:
        return
    model = {**before.get("model", {}), **layer.get("model", {})}.get("kind", "selfgnn")
    usual = "next-item" if model == "transformer" else "pairwise"
    objective = {**before.get("objective", {}), **layer.get("objective", {})}.get("kind", usual)
    if value != (own := "candidates" if objective == "next-item" else "items"):
        raise HardGNNError(
            f"hard.searched: is said by the objective now, and {objective} searches hard negatives among {own}; leave "
            "it out, or choose objective.kind"
        )


def is_whole(layer: Tables) -> bool:
    """Whether a document is all of an earlier version's config, as its run folders have it."""
    return {"model", "ssl", "hard", "transitions", "train"} <= layer.keys() and "sequence" in layer["model"]


def _optimiser(layer: Tables, before: Tables) -> Tables:
    """Decoupled decay is a kind of its own: it takes the place of the L2 term, which had to be 0 beside it."""
    fields = layer.get("optimiser", {})
    kind = fields.get("kind", before.get("optimiser", {}).get("kind", "adam"))
    if "kind" not in fields and fields.get("weight_decay"):
        kind = fields["kind"] = "adamw"
    idle = "l2" if kind == "adamw" else "weight_decay"
    if fields.get(idle) == 0:  # what was off is not there any more
        del fields[idle]
    if not fields:
        layer.pop("optimiser", None)
    return layer


def _without_idle(layer: Tables) -> Tables:
    """A whole earlier config without what changed nothing in it, and with the kind of its model."""
    layer = {section: dict(fields) for section, fields in layer.items()}
    model, train = layer["model"], layer["train"]
    next_item, sequence = train.get("objective") == "positions", model["sequence"]
    model["kind"] = "selfgnn"
    drop = {"model": set(), "train": set(), "hard": set()}  # type: dict[str, set[str]]
    if sequence != "full":
        drop["model"].add("sequence_pooling")
    if sequence == "none":
        drop["model"].add("sequence_layers")
    if next_item:
        drop["train"] |= {"batch_users", "users_per_epoch", "pairs_per_user", "pred_num", "hinge", "negatives_avoid"}
        drop["hard"] |= set(OF_PAIRS)
    else:
        drop["train"] |= {"candidates", "candidate_popularity", "batch_positions", "recent_share"}
        drop["hard"].add("share")
    drop["train"] |= {"l2", "l2_over"} if train.get("weight_decay") else {"weight_decay"}
    plain = (model["intervals"], model["layers"], model["interval_encoder"], model["sequence_activation"])
    if (
        next_item
        and sequence == "causal"
        and plain == (1, 0, "sum", "none")
        and not model["user_term"]
        and not layer["ssl"]["weight"]
    ):
        model["kind"] = "transformer"
        drop["model"] |= set(OF_INTERVALS)
        del layer["ssl"]
    if not layer["transitions"].get("use"):
        layer["transitions"] = {"use": False}
    for section, names in drop.items():
        layer[section] = {name: value for name, value in layer[section].items() if name not in names}
    return layer
