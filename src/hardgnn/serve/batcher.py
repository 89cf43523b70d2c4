"""Requests that wait while others are scored are scored together: one pass over the item vectors serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from hardgnn.errors import HardGNNError
from hardgnn.serve.engine import Ask

MOST = 64  # requests scored together


class Batcher:
    """Runs `answer` on a thread of its own, with as many of the waiting requests at once as there are.

    Nobody waits for company: a request that comes alone is scored at once.
    """

    def __init__(self, answer: Callable[[Sequence[Ask]], list[dict[str, Any]]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[Ask, asyncio.Future[dict[str, Any]]]] = []
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "scores")

    async def ask(self, ask: Ask) -> dict[str, Any]:
        """The answer to one request."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        return await future

    async def run(self, work: Callable[[], Any]) -> Any:
        """Any other work on the same thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _drain(self) -> None:
        while self._waiting:
            batch = [(ask, future) for ask, future in self._waiting[:MOST] if not future.done()]  # some gave up
            del self._waiting[:MOST]
            try:
                answers = await self.run(partial(self._answer, [ask for ask, _ in batch]))
            except HardGNNError as error:
                # One request is wrong, and the others must not suffer for it.
                answers = [await self._alone(ask) for ask, _ in batch] if len(batch) > 1 else [error]
            except Exception as error:
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def _alone(self, ask: Ask) -> Any:
        try:
            return (await self.run(partial(self._answer, [ask])))[0]
        except Exception as error:
            return error
