"""A device that is none: tensors that say they are elsewhere, and fail where one from the processor joins them.

    with device_guard() as device:
        model.to(device)(torch.tensor([1, 2]).to(device))

The numbers are computed all the same, on the processor, so that results can be compared. What a real device refuses
fails here too: an operation on tensors of both places (but for single numbers), and `.numpy()` of a tensor that was not
fetched with `.cpu()`. Random numbers come from a generator of the processor, since this device has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")  # torch makes no kernel of its own run there
ACROSS = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Elsewhere(Tensor):
    """A tensor of that device, and its numbers."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=DEVICE,
        )
        made.numbers = numbers
        return made

    def tolist(self) -> Any:
        """The numbers, as a device gives them when it is waited for."""
        return self.numbers.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Guard(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _FromData(TorchFunctionMode):
    """`torch.tensor` and `torch.as_tensor` make their tensor in one step, which no operation tells of."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return func(*args, **kwargs | {"device": None}).to(DEVICE)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, Elsewhere)]
    here = [one for one in tensors if not isinstance(one, Elsewhere) and one.dim() > 0]
    if there and here and func not in ACROSS:
        shapes = ", ".join(str(tuple(one.shape)) for one in here)
        raise RuntimeError(f"{func}: a tensor of the processor, of shape {shapes}, among those of the device")
    place = kwargs.get("device")
    if place is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    args, kwargs = pytree.tree_map_only(Elsewhere, lambda one: one.numbers, (args, kwargs))
    found = func(*args, **kwargs)
    to_device = bool(there) if place is None else torch.device(place) == DEVICE
    if func is torch.ops.aten.copy_.default:
        to_device = isinstance(tensors[0], Elsewhere)
    if not to_device:
        return found
    known = {id(one.numbers): one for one in there}  # what was changed in place is still the same tensor
    return pytree.tree_map_only(Tensor, lambda one: known[id(one)] if id(one) in known else Elsewhere(one), found)


@contextmanager
def device_guard() -> Iterator[torch.device]:
    """Within it the device that it gives exists."""
    with _FromData(), _Guard():
        yield DEVICE
