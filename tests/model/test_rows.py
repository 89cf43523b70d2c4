"""A table by rows: the weights, moments and averages of dense AdamW, whatever a step asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hardgnn.ops.form import asked_for
from hardgnn.training import rows
from hardgnn.training.rows import RowAdamW

PAST, N, D = 0.97, 60, 4


def both(scale: float, steps: int, together: int = 1, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, ...]]:
    """Weights, average and moments of a table after steps of dense AdamW, and of the same by rows."""
    rng = np.random.default_rng(0)
    first = torch.from_numpy(rng.normal(0, 0.1, (N, D))).to(dtype)
    dense, lazy = nn.Parameter(first.clone()), nn.Parameter(first.clone())
    means = [first.clone(), first.clone()]
    options = {"lr": 0.01, "weight_decay": 1.0}
    one = torch.optim.AdamW([dense], **options)
    other = RowAdamW([{"params": [lazy]}], [(lazy, (means[1], PAST))], **options)
    often = 1 / np.arange(1, N + 1)
    for step in range(steps):
        for group in (*one.param_groups, *other.param_groups):
            group["lr"] = 0.01 * 0.5 ** (step // 50)
        asked = [np.sort(rng.choice(N, 3, replace=False, p=often / often.sum())) for _ in range(together)]
        wanted = [torch.from_numpy(rng.normal(0, scale, (3, D))).to(dtype) for _ in asked]
        one.zero_grad()
        for table, look_up in ((dense, dense.__getitem__), (lazy, other.rows[lazy].look_up)):
            assert table.shape == (N, D)
            sum((look_up(torch.from_numpy(ids)) * w).sum() for ids, w in zip(asked, wanted)).backward()
        one.step()
        other.step()
        means[0].lerp_(dense.detach(), 1 if step == 0 else 1 - PAST)
    other.rows[lazy].catch_up()
    return [
        (table.detach(), mean, kind.state[table]["exp_avg"], kind.state[table]["exp_avg_sq"])
        for table, mean, kind in zip((dense, lazy), means, (one, other))
    ]


@pytest.mark.parametrize("kept", [7, 4096])
@pytest.mark.parametrize(("scale", "together"), [(1.0, 1), (1e-3, 2)])
def test_rows_end_where_dense_adamw_brings_them(
    kept: int, scale: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "KEPT_STEPS", kept)
    for dense, lazy in zip(*both(scale, 120, together)):
        torch.testing.assert_close(lazy, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["native", "torch", "reference"])
def test_every_form_does_so_in_float32(form: str) -> None:
    with asked_for(form):
        for dense, lazy in zip(*both(0.1, 120, dtype=torch.float32)):
            torch.testing.assert_close(lazy, dense, rtol=1e-5, atol=2e-6)


def test_gradients_as_small_as_the_epsilon_of_adam_move_rows_nearly_as_far() -> None:
    for dense, lazy in zip(*both(1e-8, 120)):
        torch.testing.assert_close(lazy, dense, rtol=1e-3, atol=1e-4)  # of steps of 0.01


def test_what_is_asked_for_is_up_to_date_and_a_look_alone_changes_nothing() -> None:
    table = nn.Parameter(torch.ones(5, 2))
    optimiser = RowAdamW([{"params": [table]}], [(table, None)], lr=0.1, weight_decay=0.5)
    kept = optimiser.rows[table]
    for _ in range(3):
        kept.look_up(torch.tensor([0])).sum().backward()
        optimiser.step()
    with torch.no_grad():
        torch.testing.assert_close(kept.look_up(torch.tensor([1, 4])), torch.full((2, 2), 0.95**3))
    assert bool((table.detach()[2] == 1).all())  # nobody has asked for it
    torch.testing.assert_close(kept.look_up(None).detach()[1:], torch.full((4, 2), 0.95**3))
    optimiser.step()
    torch.testing.assert_close(kept.look_up(torch.tensor([1])).detach(), torch.full((1, 2), 0.95**4))
