"""The neural peers as modules: SASRec, GRU4Rec, LightGCN and BPR-MF, with RecBole's initial weights and losses.

Weights have the names that they have in RecBole 1.2.1, and are drawn in its order: a seed begins with the same model,
and what either has trained the other loads. Index 0 is padding, so that all indices are one higher than ours.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, cast

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from hardgnn.data.dataset import Dataset
from hardgnn.models.similarity import training_matrix

Setting = dict[str, Any]


class PeerNetwork(nn.Module):
    """A peer's network: a loss of a batch, and scores of users or windows."""

    sequential = False

    @abstractmethod
    def loss(self, asked: dict[str, Tensor], real: Tensor | None) -> Tensor:
        """The loss of a batch of `peers.batches`; of a sequential one the mean over the positions that are `real`."""

    @abstractmethod
    def scores(self, asked: dict[str, Tensor]) -> Tensor:
        """Scores (B, I + 1) of the users, or after the windows, that are asked for."""


class SequentialNetwork(PeerNetwork):
    """A network that reads windows; every position predicts the next item by cross-entropy over all items."""

    sequential = True
    item_embedding: nn.Embedding

    @abstractmethod
    def forward(self, window: Tensor) -> Tensor:
        """What is read up to each position: (B, M), aligned to the left and padded with 0 -> (B, M, d)."""

    def loss(self, asked: dict[str, Tensor], real: Tensor | None) -> Tensor:
        """The mean over all positions with a target."""
        assert real is not None
        return F.cross_entropy(self(asked["item_list"])[real] @ self.item_embedding.weight.T, asked["item"])

    def scores(self, asked: dict[str, Tensor]) -> Tensor:
        """After the last item of each window."""
        outputs = self(asked["item_list"])
        last = outputs[torch.arange(len(outputs)), asked["length"] - 1]
        return cast(Tensor, last @ self.item_embedding.weight.T)


class SASRec(SequentialNetwork):
    """Kang and McAuley 2018: causal self-attention over the window, normalised after each part as in BERT."""

    def __init__(self, dataset: Dataset, setting: Setting, heads: int = 2, inner: int = 256) -> None:
        super().__init__()
        size, dropout = setting["hidden_size"], setting["dropout"]
        self.item_embedding = nn.Embedding(dataset.n_items + 1, size, padding_idx=0)
        self.position_embedding = nn.Embedding(setting["length"], size)
        layer = _Layer(size, heads, inner, dropout)
        self.trm_encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(copy.deepcopy(layer) for _ in range(setting["n_layers"]))}
        )
        self.LayerNorm = nn.LayerNorm(size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.apply(_normal)

    def forward(self, window: Tensor) -> Tensor:
        """(B, M) -> (B, M, d)."""
        found = self.item_embedding(window) + self.position_embedding.weight[: window.shape[1]]
        found = self.dropout(self.LayerNorm(found))
        seen = torch.tril((window != 0)[:, None, None].expand(-1, -1, window.shape[1], -1))
        mask = torch.where(seen, 0.0, -10000.0)
        for layer in cast(nn.ModuleList, self.trm_encoder["layer"]):
            found = layer(found, mask)
        return cast(Tensor, found)


class _Layer(nn.Module):
    """Attention, then two dense layers."""

    def __init__(self, size: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.multi_head_attention = _Attention(size, heads, dropout)
        self.feed_forward = _FeedForward(size, inner, dropout)

    def forward(self, found: Tensor, mask: Tensor) -> Tensor:
        return cast(Tensor, self.feed_forward(self.multi_head_attention(found, mask)))


class _Attention(nn.Module):
    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)
        self.attn_dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=1e-12)
        self.out_dropout = nn.Dropout(dropout)

    def forward(self, found: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part(found).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + mask).softmax(-1)
        context = (self.attn_dropout(weights) @ value).transpose(1, 2).flatten(2)
        return cast(Tensor, self.LayerNorm(self.out_dropout(self.dense(context)) + found))


class _FeedForward(nn.Module):
    def __init__(self, size: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.dense_1, self.dense_2 = nn.Linear(size, inner), nn.Linear(inner, size)
        self.LayerNorm = nn.LayerNorm(size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, found: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.dropout(self.dense_2(F.gelu(self.dense_1(found)))) + found))


class GRU4Rec(SequentialNetwork):
    """Hidasi et al. 2016 as improved by Tan et al. 2016: a recurrent network over the window."""

    def __init__(self, dataset: Dataset, setting: Setting) -> None:
        super().__init__()
        size, hidden = setting["embedding_size"], setting["hidden_size"]
        self.item_embedding = nn.Embedding(dataset.n_items + 1, size, padding_idx=0)
        self.emb_dropout = nn.Dropout(setting["dropout"])
        self.gru_layers = nn.GRU(size, hidden, setting["num_layers"], bias=False, batch_first=True)
        self.dense = nn.Linear(hidden, size)
        nn.init.xavier_normal_(self.item_embedding.weight)
        for name in ("weight_hh_l0", "weight_ih_l0"):
            nn.init.xavier_uniform_(self.gru_layers.get_parameter(name))

    def forward(self, window: Tensor) -> Tensor:
        """(B, M) -> (B, M, d)."""
        outputs, _ = self.gru_layers(self.emb_dropout(self.item_embedding(window)))
        return cast(Tensor, self.dense(outputs))


class PairwiseNetwork(PeerNetwork):
    """A network with a vector for each user and item; what a user has is to score higher than what they have not."""

    def __init__(self, dataset: Dataset, size: int) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(dataset.n_users + 1, size)
        self.item_embedding = nn.Embedding(dataset.n_items + 1, size)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Of all users and of all items, whose products are the scores."""
        return self.user_embedding.weight, self.item_embedding.weight

    def loss(self, asked: dict[str, Tensor], real: Tensor | None) -> Tensor:
        """Rendle et al. 2009."""
        users, items = self.vectors()
        user = F.embedding(asked["user"], users)
        had, had_not = ((user * F.embedding(asked[name], items)).sum(1) for name in ("item", "neg_item"))
        return -torch.log(1e-10 + torch.sigmoid(had - had_not)).mean()

    def scores(self, asked: dict[str, Tensor]) -> Tensor:
        """Products of vectors."""
        users, items = self.vectors()
        return users[asked["user"]] @ items.T


class BPRMF(PairwiseNetwork):
    """Rendle et al. 2009: matrix factorisation."""

    def __init__(self, dataset: Dataset, setting: Setting) -> None:
        super().__init__(dataset, setting["embedding_size"])
        nn.init.xavier_normal_(self.user_embedding.weight)
        nn.init.xavier_normal_(self.item_embedding.weight)


class LightGCN(PairwiseNetwork):
    """He et al. 2020: the mean of the vectors' layers over the graph of training, propagated by D^-1/2 A D^-1/2."""

    def __init__(self, dataset: Dataset, setting: Setting) -> None:
        super().__init__(dataset, setting["embedding_size"])
        self.layers, self.reg_weight = setting["n_layers"], setting["reg_weight"]
        self.norm_adj_matrix = normalised(dataset)
        self._kept: tuple[Tensor, Tensor] | None = None
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)

    def train(self, mode: bool = True) -> LightGCN:
        """What was propagated is kept while the weights stand still, which training ends."""
        self._kept = None if mode else self._kept
        return super().train(mode)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Propagated."""
        if self._kept is not None:
            return self._kept
        layers = [torch.cat([self.user_embedding.weight, self.item_embedding.weight])]
        for _ in range(self.layers):
            layers.append(torch.sparse.mm(self.norm_adj_matrix, layers[-1]))
        mean = torch.stack(layers, 1).mean(1)
        users, items = mean.split([self.user_embedding.num_embeddings, self.item_embedding.num_embeddings])
        self._kept = None if self.training else (users, items)
        return users, items

    def loss(self, asked: dict[str, Tensor], real: Tensor | None) -> Tensor:
        """That of BPR, and the norms of the batch's own vectors."""
        own = self.user_embedding(asked["user"]), *(self.item_embedding(asked[name]) for name in ("item", "neg_item"))
        norms = sum((vectors.norm() for vectors in own), torch.zeros(())) / len(own[0])
        return super().loss(asked, real) + self.reg_weight * norms


def normalised(dataset: Dataset) -> Tensor:
    """D^-1/2 A D^-1/2 over users and then items, padding included."""
    found = training_matrix(dataset).tocoo()
    shape = dataset.n_users + 1, dataset.n_items + 1
    edges = sparse.coo_matrix((found.data, (found.row + 1, found.col + 1)), shape)
    matrix = sparse.block_array([[None, edges], [edges.T, None]], format="coo")
    scale = (np.asarray(matrix.sum(axis=1)).ravel() + 1e-7) ** -0.5
    values = (scale[matrix.row] * scale[matrix.col]).astype(np.float32)
    places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    size = torch.Size(matrix.shape)
    return torch.sparse_coo_tensor(places, torch.from_numpy(values), size, check_invariants=True).coalesce()


def _normal(module: nn.Module) -> None:
    """SASRec's initial weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
