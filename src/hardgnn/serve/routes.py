"""The addresses of the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.convertors import StringConvertor, register_url_convertor

from hardgnn.serve import schemas
from hardgnn.serve.batcher import Batcher
from hardgnn.serve.engine import Ask, Engine
from hardgnn.serve.metrics import count_answer, exposition
from hardgnn.serve.page import PAGE, POLICY
from hardgnn.serve.schemas import MOST_ITEMS
from hardgnn.serve.state import State

MOST_SHOWN = 500  # of a history
N = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="How many.")]
Few = Annotated[int, Query(ge=1, le=50, description="How many at most.")]
Text = Annotated[str, Query(description="What to look for.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem} for status in (400, 401, 404, 408, 413, 421, 422, 503)
}


class AnyText(StringConvertor):
    """An id in an address may hold anything, slashes and line breaks included."""

    regex = r"[\s\S]*"


register_url_convertor("any", AnyText())
router = APIRouter(responses=PROBLEMS)


def _state(request: Request) -> State:
    state: State = request.app.state.run
    return state


def _engine(request: Request) -> Engine:
    return _state(request).engine


def _known(found: int, kind: str, raw: str) -> int:
    if found < 0:
        raise HTTPException(404, f"unknown {kind} '{raw[:100]}'")
    return found


async def _answer(request: Request, ask: Ask) -> dict[str, Any]:
    batcher: Batcher = request.app.state.batcher
    answer = await batcher.ask(ask)
    count_answer(answer["source"])
    return answer


@router.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """The page to look at."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})


@router.get("/healthz", tags=["service"])
async def health(request: Request) -> schemas.Health:
    """Whether the service answers, and with which run."""
    state, engine = _state(request), _engine(request)
    return schemas.Health(
        status="ok",
        run=engine.model.name,
        version=engine.version,
        users=len(engine.users),
        items=len(engine.items),
        approximate=engine.index is not None,
        reload_error=state.error,
    )


@router.get("/readyz", tags=["service"], responses={503: {"model": schemas.Ready}})
async def ready(request: Request, response: Response, settled: bool = False) -> schemas.Ready:
    """Whether a load balancer may send requests here; 503 where it may not, for the service is about to end.

    While a new run is made ready the one before is served, and the service is ready. With `settled` it is not until
    every worker has the new one: for whoever reloads hosts one after the other.
    """
    state, engine = _state(request), _engine(request)
    found = not state.draining and (state.phase == "ready" or not settled)
    response.status_code = 200 if found else 503
    return schemas.Ready(ready=found, status=state.phase, run=engine.model.name, version=engine.version)


@router.get("/metrics", tags=["service"], response_class=Response)
def metrics() -> Response:
    """Counts and times in Prometheus' text format."""
    body, kind = exposition()
    return Response(body, headers={"content-type": kind})


@router.post("/v1/reload", tags=["service"], status_code=202, responses={403: {"model": schemas.Problem}})
async def reload(request: Request) -> schemas.Reloading:
    """Reads the run folder anew, without dropping a request; only where a token is set."""
    if request.app.state.settings.token is None:
        raise HTTPException(403, "the service has no token, so a reload is asked for by SIGHUP alone")
    if not _state(request).ask_reload():
        raise HTTPException(503, "nobody keeps the run of this process")
    return schemas.Reloading(status="reloading", version=_engine(request).version)


@router.get("/v1/users", tags=["look up"])
async def users(request: Request, q: Text = "", n: Few = 10) -> schemas.Users:
    """Users whose id starts with `q` or contains it."""
    return schemas.Users(users=_engine(request).search_users(q, n))


@router.get("/v1/users/examples", tags=["look up"])
async def examples(request: Request) -> schemas.Examples:
    """A few users whom training knows, from little to much active: whom to look at first."""
    return schemas.Examples(users=[schemas.ExampleUser(**one) for one in _engine(request).examples])


@router.get("/v1/items", tags=["look up"])
async def items(request: Request, q: Text = "", n: Few = 10) -> schemas.Items:
    """Items whose title contains `q` or whose id starts with it."""
    return schemas.Items(items=[schemas.Item(**one) for one in _engine(request).search_items(q, n)])


@router.get("/v1/users/recommendations", tags=["recommend"])
@router.get("/v1/users/{user:any}/recommendations", tags=["recommend"])
async def recommendations(
    request: Request, user: str, n: N = 10, exclude_seen: bool = True, explain: bool = False
) -> schemas.Recommendations:
    """The best items of a user whom the run knows."""
    _known(_engine(request).users.find(user), "user", user)
    answer = await _answer(request, Ask(user=user, n=n, exclude_seen=exclude_seen, explain=explain))
    return schemas.Recommendations(**answer)


@router.post("/v1/recommendations", tags=["recommend"])
async def recommend(request: Request, wanted: schemas.Wanted) -> schemas.Recommendations:
    """The best items of anybody: a user, newer items, both, or neither.

    A user is scored by what the model has learnt of them, where it learns such things, and by their recent items;
    somebody unknown by their items alone; popular items are what is left where nothing is known. `source` tells which,
    and `meaning` what that means. Unknown items are skipped and named.
    """
    return schemas.Recommendations(**await _answer(request, Ask(**wanted.model_dump())))


@router.get("/v1/users/history", tags=["look up"])
@router.get("/v1/users/{user:any}/history", tags=["look up"])
async def history(request: Request, user: str, n: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 200) -> schemas.History:
    """The last items of a user, oldest first, with the model's time intervals."""
    engine = _engine(request)
    row = _known(engine.users.find(user), "user", user)
    return schemas.History(
        user=user,
        trained=bool(engine.trained[row]),
        interactions=len(engine.histories.of(row)),
        intervals=engine.intervals_of_time,
        history=[schemas.Seen(**one) for one in engine.history(row, n)],
    )


@router.get("/v1/items/similar", tags=["recommend"])
@router.get("/v1/items/{item:any}/similar", tags=["recommend"])
async def similar(request: Request, item: str, n: N = 10) -> schemas.SimilarItems:
    """The items whose vectors have the highest cosine to this one's."""
    engine = _engine(request)
    row = _known(engine.items.find(item), "item", item)
    found = await request.app.state.batcher.run(lambda: engine.similar(row, n))
    return schemas.SimilarItems(
        item=schemas.Item(**engine.named(row)), similar=[schemas.Similar(**one) for one in found]
    )
