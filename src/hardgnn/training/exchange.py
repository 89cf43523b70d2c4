"""What processes exchange in a step: gradients and losses, added up over the parts of all."""

from __future__ import annotations

import torch
from torch import Tensor

from hardgnn.models.network import Common, Network
from hardgnn.processes.group import processes


class Exchange:
    """The gradients of a step: packed part by part, added up over all parts of all processes, and put back.

    Of a parameter in `touched` the rows (r,) that it names alone are exchanged. What parts leave at what they have in
    `common` goes on from there once it is added up; the parameters behind it are exchanged only where a term has given
    some part a gradient of theirs by itself.
    """

    def __init__(self, network: Network, touched: dict[str, Tensor], common: Common | None, parts: int) -> None:
        self.network, self.touched, self.common = network, touched, common
        self._through = [] if common is None else common.through
        self._names = [name for name, _ in network.named_parameters() if name not in self._through]
        self._at_common = 0 if common is None else common.numbers
        self._parts, self._packed, self._values = parts, 0, 0
        self._rows: Tensor | None = None  # (parts, n)
        self._beside: list[dict[str, Tensor]] = []  # of each part the gradients that are behind what is in common

    def pack(self, values: Tensor) -> None:
        """Takes the gradients of the next part, and numbers (m,) to be added up too."""
        self._beside.append({})
        for name in self._through:
            gradient = self.network.get_parameter(name).grad
            if gradient is not None:
                self._beside[-1][name] = gradient
        flags = values.new_tensor([float(name in self._beside[-1]) for name in self._through])
        found = [*(self._gradient(name) for name in self._names), flags, values]
        self._values = len(values)
        if self._rows is None:
            self._rows = values.new_empty(self._parts, self._at_common + sum(map(len, found)))
        row = self._rows[self._packed]
        if self.common is not None:
            self.common.gradient(row[: self._at_common])
        torch.cat(found, out=row[self._at_common :])
        self._packed += 1

    def _gradient(self, name: str) -> Tensor:
        parameter, rows = self.network.get_parameter(name), self.touched.get(name)
        if name in self.network.kept:
            return self.network.kept[name].gradient(_all(parameter) if rows is None else rows).flatten()
        if parameter.grad is None:
            return parameter.new_zeros(parameter.numel() if rows is None else len(rows) * parameter.shape[-1])
        if rows is None:
            return parameter.grad.flatten()
        return parameter.grad.view(-1, parameter.shape[-1]).index_select(0, rows).flatten()

    def unpack(self) -> list[float]:
        """Leaves the sums in the gradients; answers those of the numbers. Rows not touched have none, as before."""
        assert self._rows is not None
        sums, self._rows = processes().added(self._rows), None
        start = self._at_common
        for name in self._names:
            start += self._put(name, sums[start:])
        for name, flag in zip(self._through, sums[start:].tolist()):
            parameter = self.network.get_parameter(name)
            parameter.grad = None
            if flag:
                each = [found.get(name, torch.zeros_like(parameter)).flatten() for found in self._beside]
                parameter.grad = processes().added(torch.stack(each)).view_as(parameter)
        if self.common is not None:
            self.common.backward(sums[: self._at_common])
        found: list[float] = sums[-self._values :].tolist()
        return found

    def _put(self, name: str, sums: Tensor) -> int:
        """Puts the first of these numbers into the gradient of a parameter; answers how many."""
        parameter, rows = self.network.get_parameter(name), self.touched.get(name)
        size = parameter.numel() if rows is None else len(rows) * parameter.shape[-1]
        own = sums[:size]
        if name in self.network.kept:
            self.network.kept[name].change(_all(parameter) if rows is None else rows, own.view(-1, parameter.shape[-1]))
        elif rows is None:
            parameter.grad = own.view_as(parameter)
        else:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.view(-1, parameter.shape[-1]).index_copy_(0, rows, own.view(len(rows), -1))
        return size


def _all(table: Tensor) -> Tensor:
    return torch.arange(len(table), device=table.device)
