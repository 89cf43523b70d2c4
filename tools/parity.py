"""Compares our model with a fixture exported from the released HardGNN code, number by number.

    python tools/parity.py FIXTURE.npz [--double]

The fixture's weights are loaded into the classes that training uses, under the preset `released`. One line per
quantity gives the largest absolute difference, the largest difference relative to the quantity's largest value, and
the tolerance. Exit status 1 when a tolerance is exceeded, 2 when the file is no fixture.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hardgnn import metrics
from hardgnn.config import resolve
from hardgnn.data.histories import PADDING, Histories
from hardgnn.errors import HardGNNError
from hardgnn.models.attention import SelfAttention
from hardgnn.models.network import Seen
from hardgnn.models.selfgnn import SelfGNN
from hardgnn.models.selfgnn.augmented import self_augmented
from hardgnn.ops.graph import InteractionGraph
from hardgnn.ops.pairs import pair_products
from hardgnn.training import losses
from hardgnn.training.samplers import hardest

# vectors and predictions absolute, losses relative, gradients absolute times max(1, max|g|)
TOLERANCES = {"vector": 2e-5, "score": 5e-5, "loss": 1e-5, "gradient": 2e-5, "exact": 0.0, "sum": 1e-9}
DOUBLE = {"vector": 5e-6, "score": 1e-5, "loss": 2e-6, "gradient": 5e-6, "exact": 0.0, "sum": 1e-9}
SCORE_SCALE = 20.0  # the tolerance of predictions is meant for this size; float32 fixtures round in proportion
CUTOFFS = (5, 10, 20)


class Parity:
    """One fixture and our model with its weights."""

    def __init__(self, arrays: dict[str, np.ndarray], double: bool) -> None:
        self.arrays, self.meta = arrays, json.loads(str(arrays["meta_json"]))
        self.dtype = torch.float64 if double else torch.float32
        self.tolerances = DOUBLE if double else TOLERANCES
        self.lines: list[tuple[str, float, float, float, bool]] = []
        meta = self.meta
        self.shape = (meta["intervals"], meta["users"], meta["items"])
        sizes = {
            "dim": meta["latdim"],
            "intervals": meta["intervals"],
            "layers": meta["gnn_layers"],
            "heads": meta["heads"],
            "window": meta["pos_length"],
            "norm_epsilon": meta["layer_norm_eps"],
            "leaky_slope": meta["leaky"],
        }
        ssl = {"weight": meta["ssl_reg"], "dim": meta["ssldim"]}
        config = resolve("released", options={"model": sizes, "encoder": {"layers": meta["att_layers"]}, "ssl": ssl})
        self.model = SelfGNN(config.model, meta["users"], meta["items"], Seen(graph=self._graph())).to(self.dtype)
        self.parameters = self._pair_parameters()
        with torch.no_grad():
            for name, (parameter, rows, transposed) in self.parameters.items():
                value = self.tensor(f"var/{name}")
                parameter[rows] = value.T if transposed else value
            for side in (self.model.user_encoder, self.model.item_encoder):
                side.recurrent.bias_hh_l0.zero_()  # Keras has one bias

    def _graph(self) -> InteractionGraph:
        edges = [
            self.integers(f"in/adj_{t}_{side}").numpy() for t in range(self.shape[0]) for side in ("users", "items")
        ]
        intervals, users, items = self.shape
        rows = np.concatenate([t * users + edges[2 * t] for t in range(intervals)])
        columns = np.concatenate([t * items + edges[2 * t + 1] for t in range(intervals)])
        stacked = sp.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, columns)), shape=(intervals * users, intervals * items)
        )
        return InteractionGraph(stacked, self.shape)

    def tensor(self, name: str) -> Tensor:
        """A float array of the fixture."""
        return torch.from_numpy(self.arrays[name]).to(self.dtype)

    def integers(self, name: str) -> Tensor:
        """An integer array of the fixture."""
        return torch.from_numpy(self.arrays[name].astype(np.int64))

    def _pair_parameters(self) -> dict[str, tuple[Tensor, slice, bool]]:
        """Fixture name -> our parameter, its rows, and whether it is transposed there (Keras kernels are)."""
        model, whole, pairs = self.model, slice(None), {}
        pairs["user_embedding"] = (model.user_embedding, whole, False)
        pairs["item_embedding"] = (model.item_embedding, whole, False)
        pairs["position_embedding"] = (model.sequence_encoder.positions, whole, False)

        def norm(name: str, module: Any) -> None:
            pairs[f"{name}.gamma"] = (module.weight, whole, False)
            pairs[f"{name}.beta"] = (module.bias, whole, False)

        def attention(name: str, module: SelfAttention) -> None:
            dim = self.meta["latdim"]
            for place, part in enumerate(("query", "key", "value")):
                rows = slice(place * dim, (place + 1) * dim)
                pairs[f"{name}.{part}.kernel"] = (module.qkv.weight, rows, True)
                pairs[f"{name}.{part}.bias"] = (module.qkv.bias, rows, False)
            pairs[f"{name}.output.kernel"] = (module.output.weight, whole, True)
            pairs[f"{name}.output.bias"] = (module.output.bias, whole, False)

        for side, encoder in (("user", model.user_encoder), ("item", model.item_encoder)):
            pairs[f"{side}_lstm.kernel"] = (encoder.recurrent.weight_ih_l0, whole, True)
            pairs[f"{side}_lstm.recurrent_kernel"] = (encoder.recurrent.weight_hh_l0, whole, True)
            pairs[f"{side}_lstm.bias"] = (encoder.recurrent.bias_ih_l0, whole, False)
            norm(f"norm_{side}_intervals", encoder.norm)
            attention(f"interval_attention_{side}", encoder.attention)
        sequence = model.sequence_encoder
        norm("norm_sequence_items", sequence.item_norm)
        norm("norm_sequence_positions", sequence.position_norm)
        for layer, (layer_norm, layer_attention) in enumerate(zip(sequence.norms, sequence.layers, strict=True)):
            norm(f"norm_sequence_layer_{layer}", layer_norm)
            attention(f"sequence_attention_{layer}", layer_attention)
        for name, module in (("ssl_weight_hidden", model.weight_hidden), ("ssl_weight_out", model.weight_out)):
            pairs[f"{name}.kernel"] = (module.weight, whole, True)
            pairs[f"{name}.bias"] = (module.bias, whole, False)
        return pairs

    def check(self, name: str, ours: Any, theirs: Any, kind: str) -> None:
        """Notes the largest differences of one quantity."""
        ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
        theirs = np.asarray(theirs)
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: our shape is {ours.shape}, the fixture's {theirs.shape}")
        scale = float(np.abs(theirs).max(initial=0.0))
        largest = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
        allowed = self.tolerances[kind]
        if kind == "loss":
            allowed *= max(scale, 1e-12)
        elif kind == "gradient":
            allowed *= max(1.0, scale)
        elif kind == "score":
            allowed *= max(1.0, scale / SCORE_SCALE)
        self.lines.append((name, largest, largest / scale if scale else 0.0, allowed, largest <= allowed))

    def run(self) -> bool:
        """Computes everything; whether all of it is within tolerance."""
        model, seen = self.model, dict[str, Tensor]()

        model.sequence_encoder.norms[0].register_forward_hook(
            lambda _module, inputs, _output: seen.__setitem__("sequence_input", inputs[0])
        )

        short = model.short_term()
        self.check("short-term user vectors", short.users, self.arrays["out/user_vectors"], "vector")
        self.check("short-term item vectors", short.items, self.arrays["out/item_vectors"], "vector")
        long_users, long_items = model.users(short), model.items(short)
        for side, encoder, inputs in (
            ("user", model.user_encoder, short.users),
            ("item", model.item_encoder, short.items),
        ):
            states = encoder.recurrent(inputs)[0].transpose(0, 1)
            self.check(f"{side} LSTM states", states, self.arrays[f"out/{side}_lstm_out"], "vector")
            attended = encoder.attention(encoder.norm(states))
            self.check(f"{side} interval attention", attended, self.arrays[f"out/{side}_interval_attention"], "vector")
        self.check("final user vectors", long_users, self.arrays["out/final_user_vector"], "vector")
        self.check("final item vectors", long_items, self.arrays["out/final_item_vector"], "vector")

        sequence = model.sequence(long_items, self._window("in/sequence", "in/mask"))
        self.check("sequence input", seen["sequence_input"], self.arrays["out/sequence_input"], "vector")
        self.check("sequence layers", sequence.unsqueeze(1), self.arrays["out/sequence_layers_out"], "vector")
        self.check("sequence vectors", sequence, self.arrays["out/att_user"], "vector")

        predictions = self._predict("in", long_users, long_items, sequence)
        half = len(predictions) // 2
        self.check("predictions", predictions, self.arrays["out/preds"], "score")
        terms = {
            "preLoss": losses.hinge(predictions[:half], predictions[half:]),
            "sslloss": self._self_augmented(short.users, short.items, long_users, long_items),
            "contrastive_loss": self._info_nce(sequence, long_items, half),
        }
        # The released L2 also sums weights that feed nothing; here they are a constant.
        constant = sum(self.tensor(f"var/{name}").square().sum() for name in self.meta["unused"])
        squares = sum(parameter.square().sum() for parameter in model.decayed())
        regularised = self.meta["reg"] * (squares + constant) + self.meta["ssl_reg"] * terms["sslloss"]
        total = terms["preLoss"] + regularised + self.meta["contrastive_weight"] * terms["contrastive_loss"]
        for name, term in (terms | {"l2_sum": squares + constant, "regLoss": regularised, "total": total}).items():
            self.check(f"loss {name}", term, self.arrays[f"loss/{name}"], "loss")
        for name, term in (terms | {"total": total}).items():
            self._check_gradients(name, term)
        with torch.no_grad():
            self._check_evaluation(long_users, long_items)
            self._check_hard_negatives(long_items)
        return all(line[-1] for line in self.lines)

    def _window(self, sequence: str, mask: str) -> Tensor:
        return torch.where(torch.from_numpy(self.arrays[mask]) > 0, self.integers(sequence), PADDING)

    def _predict(self, where: str, users: Tensor, items: Tensor, sequence: Tensor) -> Tensor:
        rows = self.integers(f"{where}/uLocs_seq")
        own = users[self.integers(f"{where}/uids")]
        query = self.model.scoring.query(own, sequence[rows])
        columns = self.integers(f"{where}/iids")
        return pair_products(query, items, torch.arange(len(query)), columns)

    def _self_augmented(self, short_u: Tensor, short_i: Tensor, long_u: Tensor, long_i: Tensor) -> Tensor:
        slope, total = self.meta["leaky"], torch.zeros((), dtype=self.dtype)
        weights = torch.stack([self.model.user_weight(long_u, short) for short in short_u])
        self.check("user weights", weights, self.arrays["out/ssl_user_weight"], "vector")
        for t in range(self.shape[0]):
            u, v = self.integers(f"in/suids_{t}"), self.integers(f"in/siids_{t}")
            short_score = pair_products(short_u[t], short_i[t], u, v, slope)
            self.check(f"interval scores {t}", short_score, self.arrays[f"out/ssl_interval_scores_{t}"], "score")
            long_score = pair_products(long_u, long_i, u, v, slope)
            total = total + self_augmented(weights[t][u], long_score, short_score)
        return total

    def _info_nce(self, sequence: Tensor, items: Tensor, half: int) -> Tensor:
        """Every anchor shares all sampled negatives."""
        drawn = self.integers("in/iids")
        anchors = sequence[self.integers("in/uLocs_seq")[:half]]
        return losses.info_nce(anchors, items[drawn[:half]], items[drawn[half:]].unsqueeze(0), self.meta["temp"])

    def _check_gradients(self, loss: str, term: Tensor) -> None:
        self.model.zero_grad()
        term.backward(retain_graph=True)
        for name, (parameter, rows, transposed) in self.parameters.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = gradient[rows].T if transposed else gradient[rows]
            stored = self.arrays.get(f"grad/{loss}/{name}")
            # what the fixture does not store has no gradient there, so ours must be zero
            expected = np.zeros(gradient.shape) if stored is None else stored
            self.check(f"gradient {loss} {name}", gradient, expected, "gradient")

    def _ranks(self, scores: Tensor) -> np.ndarray:
        """Ranks of the last candidate; it loses ties."""
        return (scores[:, :-1] >= scores[:, -1:]).sum(1).numpy()

    def _check_sums(self, where: str, scores: Tensor) -> None:
        ranks = self._ranks(scores)
        for n in CUTOFFS:
            self.check(
                f"{where} sum HR@{n}", metrics.hit_rate(ranks, n).sum(), self.arrays[f"{where}/sum_HR{n}"], "sum"
            )
            self.check(
                f"{where} sum NDCG@{n}", metrics.ndcg(ranks, n).sum(), self.arrays[f"{where}/sum_NDCG{n}"], "sum"
            )

    def _check_evaluation(self, users: Tensor, items: Tensor) -> None:
        sequence = self.model.sequence(items, self._window("eval/sequence", "eval/mask"))
        self.check("eval sequence vectors", sequence, self.arrays["eval/att_user"], "vector")
        scores = self._predict("eval", users, items, sequence).view(self.arrays["eval/preds"].shape)
        self.check("eval predictions", scores, self.arrays["eval/preds"], "score")
        self._check_sums("eval", scores)
        judged = self.arrays["data/test_users"]
        candidates = np.column_stack([self.arrays["data/test_negatives"], self.arrays["data/test_item"][judged]])
        window = torch.from_numpy(self._histories().windows(judged, self.meta["pos_length"]))
        query = self.model.scoring.query(users[torch.from_numpy(judged).long()], self.model.sequence(items, window))
        scores = torch.einsum("vd,vcd->vc", query, items[torch.from_numpy(candidates).long()])
        self.check("all eval predictions", scores, self.arrays["eval_all/preds"], "score")
        self._check_sums("eval_all", scores)

    def _histories(self) -> Histories:
        offsets = self.arrays["data/sequence_offsets"].astype(np.int64)
        return Histories(offsets, self.arrays["data/sequence_flat"].astype(np.int32))

    def _check_hard_negatives(self, items: Tensor) -> None:
        users, histories = self.arrays["in/batch_users"], self._histories()
        tests = self.arrays["data/test_item"]
        avoided = Histories.from_lists([np.append(histories.of(u), tests[u][tests[u] >= 0]) for u in users])
        window = torch.from_numpy(histories.windows(users, self.meta["pos_length"], drop_last=1))
        query = self.model.sequence(items, window)
        self.check("hard-negative query", query, self.arrays["hard/att_query_user"], "vector")
        mean5 = torch.stack([items[torch.from_numpy(histories.of(u)[:-1][-5:]).long()].mean(0) for u in users])
        for name, one in (("att", query), ("mean5", mean5)):
            found, _ = hardest(one, items, avoided, self.meta["hard_neg_top_k"])
            stored = self.arrays[f"hard/{name}_query_items"]
            self.check(f"hard negatives, {name} query", np.sort(found.numpy(), 1), stored, "exact")


def main() -> int:
    """Prints the comparison; 0 when all is within tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", type=Path)
    parser.add_argument("--double", action="store_true", help="float64, with the tighter tolerances")
    options = parser.parse_args()
    try:
        with np.load(options.fixture, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        parity = Parity(arrays, options.double)
        good = parity.run()
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, HardGNNError) as error:
        print(f"error: {options.fixture}: not a parity fixture ({str(error).splitlines()[0]})", file=sys.stderr)
        return 2
    width = max(len(name) for name, *_ in parity.lines)
    print(f"{'quantity':<{width}}  {'max abs':>9}  {'max rel':>9}  {'allowed':>9}")
    for name, absolute, relative, allowed, fine in parity.lines:
        print(f"{name:<{width}}  {absolute:9.2e}  {relative:9.2e}  {allowed:9.2e}{'' if fine else '  EXCEEDED'}")
    exceeded = sum(not line[-1] for line in parity.lines)
    print(f"{len(parity.lines)} quantities, {exceeded} beyond tolerance")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
