"""The application: routes behind the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hardgnn.errors import HardGNNError
from hardgnn.serve.batcher import Batcher
from hardgnn.serve.engine import Ask
from hardgnn.serve.gate import Gate
from hardgnn.serve.routes import router
from hardgnn.serve.state import Settings, State
from hardgnn.version import __version__

BEAT_S = 0.5


def create_app(state: State, settings: Settings) -> Gate:
    """The service over the runs of `state`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(one) for one in (state.watch(), beat())]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(
        title="HardGNN",
        version=__version__,
        summary="Recommendations of a trained run.",
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )

    def answer(asks: Sequence[Ask]) -> list[dict[str, Any]]:
        engine = state.engine  # one engine for all of a batch, whatever comes meanwhile
        known = {"run": engine.model.name, "version": engine.version}
        return [one | known for one in engine.answer(asks)]

    batcher = Batcher(answer)

    async def beat() -> None:
        while True:
            await batcher.run(int)  # where the scoring thread is stuck, nobody is answered
            state.beat()
            await asyncio.sleep(BEAT_S)

    app.state.run, app.state.settings, app.state.batcher = state, settings, batcher
    app.include_router(router)

    _tell_problems(app)
    return Gate(app, settings, lambda: state.draining)


def _tell_problems(app: FastAPI) -> None:
    """What goes wrong is one sentence, with the number of its request."""

    def problem(request: Request, status: int, sentence: str) -> JSONResponse:
        plain = sentence.encode("utf-8", "backslashreplace").decode()  # JSON may name half a character
        body = {"error": plain, "request_id": request.state.request_id}
        return JSONResponse(body, status)

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(request, error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(HardGNNError)
    async def unable(request: Request, error: HardGNNError) -> JSONResponse:
        return problem(request, 404, str(error))  # the run has not got what is asked for

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(request, 422, f"{where}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return problem(request, 500, "unexpected error")  # the gate logs it
