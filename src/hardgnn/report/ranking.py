"""Where targets are ranked: how many users find theirs within the first k, for every k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardgnn.report.canvas import Figure
from hardgnn.report.looks import Looks
from hardgnn.report.plots import Series, lines
from hardgnn.report.standing import Standing

POINTS = 48  # of a line


def rank_figures(plan: str, models: Sequence[Standing], looks: Looks, command: str) -> list[Figure]:
    """The distribution of ranks, a figure for each data set: of the first protocol that it was ranked under."""
    figures = []
    for data in dict.fromkeys(one.data for one in models):
        mine = [one for one in models if one.data == data]
        protocol = mine[0].protocol
        mine = [one for one in mine if one.protocol == protocol]
        most = max(int(frame["candidates"].max()) for one in mine for frame in one.frames)  # type: ignore[arg-type]
        places = np.unique(np.geomspace(1, max(2, most), POINTS).astype(int))
        series = [
            Series(one.model, places.tolist(), within(one, places).tolist(), look=looks.of(one.model)) for one in mine
        ]
        title = f"{data}: share of targets within the first k, {protocol}, k logarithmic"
        name = f"ranks-{plan}-{data}"
        figures.append(lines(name, title, "k", "share within k (HR@k)", series, command=command, log=True))
    return figures


def within(one: Standing, places: np.ndarray) -> np.ndarray:
    """HR@k, the share of targets among the first k, for each k of `places`, over all seeds; ranks count from 0."""
    ranks = np.sort(np.concatenate([frame["rank"].to_numpy() for frame in one.frames]))
    return np.searchsorted(ranks, places, side="left") / len(ranks)
