"""Errors as RFC 9457 problem details: {"title", "status", "detail"}, one reason each."""

import http
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from experiments.server.store import StoreError
from experiments.server.worker import BusyError, ClosedError


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer to a request that failed.

    Args:
      status: HTTP status.
      detail: What is wrong, and what to do.
      headers: More headers.
      more: More members.
    """
    body = described(status, detail) | more
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def described(status: int, detail: str) -> dict[str, Any]:
    """The members of a problem."""
    title = http.HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def later(status: int, detail: str) -> JSONResponse:
    """The answer to a request that may succeed soon."""
    return problem(status, detail, {"Retry-After": "1"})


def busy() -> JSONResponse:
    """The answer to a request that would wait too long."""
    return later(429, "too many requests wait; send it again")


def explain_errors(app: FastAPI) -> None:
    """Makes every error of an application a problem."""

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        return problem(422, reason_of(error))

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = "there is no such route; /openapi.json lists them"
        if error.status_code == 405:
            detail = f"{request.method} is not allowed here; /openapi.json lists what is"
        return problem(error.status_code, detail, dict(error.headers or {}))

    async def broke(request: Request, error: Exception) -> JSONResponse:
        del request
        return failure(error)

    for kind in (BusyError, ClosedError, TimeoutError, StoreError, Exception):
        app.add_exception_handler(kind, broke)


def failure(error: BaseException) -> JSONResponse:
    """The answer to a request that ended with an error of the engine."""
    match error:
        case BusyError():
            return busy()
        case ClosedError():
            return later(503, "the server is stopping; send it again")
        case TimeoutError():
            return later(503, "it took too long; send it again: no event counts twice")
        case StoreError():
            logging.error("%s", error)
            return later(503, "the store cannot be used; send it again: no event counts twice")
        case _:
            return problem(500, "an error of the server; its log says more")


def reason_of(error: RequestValidationError) -> str:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors()[0]
    field = ""
    for part in first["loc"][1:] if len(first["loc"]) > 1 else first["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"the body is no JSON: {first.get('ctx', {}).get('error', message)}"
    return f"{field}: {message[:1].lower()}{message[1:]}"
