"""The HTTP application over a worker."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from experiments.server import bodies
from experiments.server.answers import events_said, said, shown_item
from experiments.server.bodies import Explain, Id, Number, Session, Time
from experiments.server.express import Express
from experiments.server.guard import Guard
from experiments.server.lateness import Lateness
from experiments.server.metrics import Metrics
from experiments.server.pages import add_pages
from experiments.server.problems import explain_errors, later, problem
from experiments.server.requests import Answer, Ask, Event
from experiments.server.swapping import RunningError, Swapper
from experiments.server.worker import Worker
from hiertcn_jax import __version__
from hiertcn_jax.exported.neighbours import Neighbours
from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.item_ids import FIRST_ITEM_ID

ResultT = TypeVar("ResultT")

ANSWER_SECONDS = 10.0
"""A request that takes longer is given up."""

_PROBLEM: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": bodies.Problem, "description": "What is wrong with the request."},
    "503": {"model": bodies.Problem, "description": "Send it again later."},
}

UserPath = Annotated[Id, Path(description="Raw id, percent-encoded.")]


def make_app(
    worker: Worker,
    token: str | None = None,
    swapper: Swapper | None = None,
    lateness: Lateness | None = None,
) -> Guard:
    """The application; it closes the worker when it is shut down.

    Args:
      worker: Answers.
      token: Requests must bear it; None: no token is needed.
      swapper: Replaces the model; None: `POST /v1/model` is refused.
      lateness: Requests are sent away while the event loop is behind; None: they wait.
    """
    swapper = swapper or Swapper(worker)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        del app
        if lateness is not None:
            lateness.start()
        yield
        await asyncio.to_thread(worker.close)

    app = FastAPI(
        title="hiertcn_jax",
        version=__version__,
        description="Recommendations that follow every event.",
        lifespan=life,
        responses=_PROBLEM,
        docs_url=None,
        redoc_url=None,
    )
    metrics = Metrics(worker)
    explain_errors(app)
    _add_events(app, worker, metrics)
    _add_recommendations(app, worker)
    _add_items(app, worker)
    _add_users(app, worker)
    _add_state(app, worker, metrics)
    _add_model(app, swapper)
    add_pages(app)

    def is_busy() -> bool:
        return worker.is_busy() or (lateness is not None and lateness.is_late())

    return Guard(app, metrics, token, is_busy, Express(worker, metrics))


async def _done(future: "Future[ResultT]") -> ResultT:
    """The result of the engine.

    Raises:
      TimeoutError: It takes too long.
    """
    return await asyncio.wait_for(asyncio.wrap_future(future), ANSWER_SECONDS)


def _add_events(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    @app.post("/v1/events", response_model=bodies.EventsAnswer, tags=["events"])
    async def events(body: bodies.EventsBody) -> Response:
        """Takes in events. An event counts once, however often it is sent: user, item and time
        tell it from others, so give times if you may have to send it again.
        """
        given = [Event(one.user, one.item, one.time, one.session) for one in body.events]
        outcomes = await _done(worker.observe(given))
        for one in outcomes:
            metrics.count(one.status, 1)
        status, shown = events_said(outcomes)
        if status == 422:
            return problem(422, f"events[0]: {outcomes[0].reason}", events=shown["events"])
        return JSONResponse(shown)


def _add_recommendations(app: FastAPI, worker: Worker) -> None:
    def ask(user: str | None, body: Any) -> Ask:
        _check_time(worker, body.at)
        chosen = None if body.candidates is None else _items(worker, body.candidates, "candidates")
        return Ask(
            user,
            n=body.n,
            at=body.at,
            exclude_seen=body.exclude_seen,
            exclude=_items(worker, body.exclude, "exclude"),
            candidates=chosen,
            explain=body.explain,
        )

    async def answers(asks: list[Ask]) -> list[Answer]:
        await _ready_to_explain(worker, asks[0])
        found = await _done(worker.recommend(asks))
        # A snapshot may have come between: then times before it are no longer known.
        for one in asks:
            _check_time(worker, one.at)
        return found

    @app.get(
        "/v1/recommend/{user:path}", response_model=bodies.UserAnswer, tags=["recommendations"]
    )
    async def recommend(
        user: UserPath,
        n: Number = 20,
        exclude_seen: bool = False,
        at: Time = None,
        explain: Explain = False,
        session: Session = None,
    ) -> Response:
        """The best items for a user's next event. Somebody new gets what suits new users."""
        _check_time(worker, at)
        if explain and session is not None:
            raise HTTPException(422, "explain: cannot be asked for together with session")
        asked = Ask(user, (), n, at, exclude_seen, explain=explain, session=session)
        (answer,) = await answers([asked])
        return JSONResponse(said(answer))

    @app.post("/v1/recommend", response_model=bodies.UsersAnswer, tags=["recommendations"])
    async def recommend_many(body: bodies.UsersBody) -> Response:
        """The best items for several users' next events."""
        first = ask(None, body)
        found = await answers([first._replace(user=user) for user in body.users])
        return JSONResponse({"users": [said(answer) for answer in found]})

    @app.post(
        "/v1/session/recommend", response_model=bodies.VisitorAnswer, tags=["recommendations"]
    )
    async def recommend_visitor(body: bodies.VisitorBody) -> Response:
        """The best items after some events of a visitor. Nothing is stored or counted."""
        picks = tuple((one.item, one.time) for one in body.events)
        (answer,) = await answers([ask(None, body)._replace(picks=picks)])
        found = said(answer)
        return JSONResponse({"model": found["model"], "items": found["items"]})


def _add_items(app: FastAPI, worker: Worker) -> None:
    newest: list[tuple[Export, Neighbours]] = []

    @app.get("/v1/items/{item:path}/similar", response_model=bodies.SimilarAnswer, tags=["items"])
    def similar(item: Id, n: Number = 20) -> Response:
        """Items whose embeddings point in similar directions."""
        export = worker.engine.export
        row = export.items.number_of(item)
        if row is None:
            raise HTTPException(404, f"item {item!r} is not in the catalogue")
        held = newest[0] if newest else None
        if held is None or held[0] is not export:
            with _reading():
                held = export, Neighbours(export)
            newest[:] = [held]
        rows, cosines = held[1].similar(row, n)
        found = zip(export.items.decode(rows), cosines.tolist(), strict=True)
        listed = [{**shown_item(export, other), "cosine": cosine} for other, cosine in found]
        return JSONResponse(
            {
                **shown_item(export, export.items.ids[row - FIRST_ITEM_ID]),
                "model": export.model_id,
                "items": listed,
            }
        )


def _add_users(app: FastAPI, worker: Worker) -> None:
    @app.get("/v1/users", response_model=bodies.UsersOfLog, tags=["users"])
    async def some_users(n: Number = 20) -> Response:
        """Some users of the log that the model was exported with."""
        found = await _done(worker.call(lambda engine: engine.users.some(n)))
        return JSONResponse({"users": found})

    @app.get("/v1/users/{user:path}", response_model=bodies.UserRecord, tags=["users"])
    async def record(user: UserPath) -> Response:
        """All that is known of a user."""
        found = await _done(worker.call(lambda engine: engine.record(user)))
        if found is None:
            raise HTTPException(404, f"nothing is known of user {user!r}")
        listed = {
            name: [
                {**shown_item(found.export, item), "time": when, "starts_session": starts}
                for item, when, starts in events
            ]
            for name, events in (("log", found.logged), ("received", found.received))
        }
        return JSONResponse({"user": found.user, **listed})

    @app.delete("/v1/users/{user:path}", status_code=204, tags=["users"])
    async def forget(user: UserPath) -> Response:
        """Removes all that is stored of a user, from the file too. What the export says of the
        user is not used any more. Counts stay; they know no users.
        """
        if not await _done(worker.call(lambda engine: engine.forget(user))):
            raise HTTPException(404, f"nothing is known of user {user!r}")
        return Response(status_code=204)


def _add_state(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["state"])
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["state"])
    async def ready() -> Response:
        """Whether requests are taken, and by which model."""
        if not worker.running:
            return later(503, "the server is stopping")
        if worker.trouble is not None:
            return later(503, "the store cannot be reached")
        engine = worker.engine
        return JSONResponse(
            {"status": "ready", "model": engine.export.model_id, "version": engine.version}
        )

    @app.get("/metrics", tags=["state"])
    def prometheus() -> Response:
        """Metrics for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_model(app: FastAPI, swapper: Swapper) -> None:
    @app.post("/v1/model", response_model=bodies.ModelAnswer, tags=["state"])
    async def change_model(body: bodies.ModelBody) -> Response:
        """Replaces the model by another export, without a gap; answers when it serves. An export
        that cannot be served is refused, and the present one stays.
        """
        try:
            directory = swapper.allowed(body.export_dir)
        except PermissionError as error:
            raise HTTPException(403, str(error)) from None
        except ValueError as error:
            raise HTTPException(422, f"export_dir: {error}") from None
        try:
            engine = await asyncio.wrap_future(swapper.start(directory))
        except RunningError as error:
            raise HTTPException(409, str(error)) from None
        except ExportError as error:
            raise HTTPException(422, str(error)) from None
        return JSONResponse({"model": engine.export.model_id, "version": engine.version})


async def _ready_to_explain(worker: Worker, ask: Ask) -> None:
    """Reads what explanations need: here, where a failure is that of one request.

    Raises:
      HTTPException: Too many items are to be explained, or the weights cannot be read.
    """
    if not ask.explain:
        return
    if ask.n > bodies.EXPLAINED_MOST:
        raise HTTPException(422, f"n: must be at most {bodies.EXPLAINED_MOST} with explain")
    with _reading():
        await asyncio.to_thread(worker.engine.explain.load)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turns an ExportError into one of HTTP."""
    try:
        yield
    except ExportError as error:
        logging.error("%s", error)
        reason = "the files of the export cannot be read any more"
        raise HTTPException(503, reason, {"Retry-After": "1"}) from None


def _items(worker: Worker, items: list[str], field: str) -> frozenset[str]:
    """Items of a request.

    Raises:
      HTTPException: One is not in the catalogue.
    """
    number_of = worker.engine.export.items.number_of
    for place, item in enumerate(items):
        if number_of(item) is None:
            raise HTTPException(422, f"{field}[{place}]: {item!r} is not in the catalogue")
    return frozenset(items)


def _check_time(worker: Worker, at: int | None) -> None:
    """Checks the time that is asked for.

    Raises:
      HTTPException: The counts were no longer known then.
    """
    first = worker.engine.counts.known_from
    if at is not None and at < first:
        raise HTTPException(422, f"at: what everybody did is known from {first} on, not at {at}")
