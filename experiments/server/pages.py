"""The pages for people: one to try the server, and one that describes its routes.

Nothing in them comes from elsewhere: no script, no style, no font.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from experiments.reporting.markup import Markup, tag

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
OPEN = (*_FILES, "/docs", "/openapi.json")
"""Paths that need no token: browsers send none with the address of a page. They hold no data."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DEEP = 4
"""How many fields inside fields are described."""


def add_pages(app: FastAPI) -> None:
    """Adds them to an application that has all its other routes."""
    folder = Path(__file__).with_name("page")
    for path, (name, kind) in _FILES.items():
        app.add_api_route(path, _file((folder / name).read_bytes(), kind), include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(described(app.openapi()), headers=_HEADERS)


def _file(content: bytes, kind: str) -> Callable[[], Response]:
    def answer() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return answer


def described(api: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    routes = [
        _route(api, path, method, said)
        for path, methods in api["paths"].items()
        for method, said in methods.items()
    ]
    title = f"Routes of {api['info']['title']}"
    problem = tag("p", "Errors are problem details (RFC 9457): ", _code("detail"), " says why.")
    machine = tag("a", "openapi.json", href="openapi.json")
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1"/>'),
            tag("title", title),
            Markup('<link rel="icon" href="data:,"/><link rel="stylesheet" href="page.css"/>'),
        ),
        tag(
            "body",
            tag("h1", title),
            tag("p", api["info"].get("description"), " For programs: ", machine, "."),
            tag("p", tag("a", "Try it", href="./"), "."),
            problem,
            tag("main", *routes, class_="routes"),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


def _route(api: dict[str, Any], path: str, method: str, said: dict[str, Any]) -> Markup:
    parts = [tag("h2", f"{method.upper()} {path}"), tag("p", said.get("description", ""))]
    given = [
        (one["name"], one["schema"], one.get("description", ""), one.get("required", False))
        for one in said.get("parameters", [])
    ]
    if given:
        parts.append(_table("In the path and the query", given))
    body = _schema_of(said.get("requestBody", {}))
    if body is not None:
        parts.append(_table("In the body, as JSON", _fields(api, body)))
    answer = _schema_of(said["responses"].get("200", {}))
    fields = [] if answer is None else _fields(api, answer)
    if fields:
        parts.append(_table("In the answer", [(*field[:3], None) for field in fields]))
    return tag("section", *parts, class_="route")


def _schema_of(said: dict[str, Any]) -> dict[str, Any] | None:
    return said.get("content", {}).get("application/json", {}).get("schema")


Field = tuple[str, dict[str, Any], str, bool | None]
"""Name, schema, description, and whether it is required; None: that does not matter."""


def _fields(api: dict[str, Any], schema: dict[str, Any], before: str = "") -> list[Field]:
    """The fields of an object, and those of objects in it."""
    schema = _resolved(api, schema)
    found: list[Field] = []
    for name, one in schema.get("properties", {}).items():
        one = _resolved(api, one)
        required = name in schema.get("required", [])
        found.append((before + name, one, one.get("description", ""), required))
        inner = before + name + ("[]" if one.get("type") == "array" else "") + "."
        if inner.count(".") < _DEEP:
            found += _fields(api, one.get("items", one), inner)
    return found


def _resolved(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in place of a reference to it; of an optional object, the object."""
    options = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(options) == 1:
        schema = {**schema, **options[0]}
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rpartition("/")[2]
    own = {key: value for key, value in schema.items() if key == "description"}
    return {**api["components"]["schemas"][name], **own}


def _table(caption: str, fields: list[Field]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", _code(name), scope="row"),
            tag("td", _kind(schema) + (", required" if required else "")),
            tag("td", description),
        )
        for name, schema, description, required in fields
    ]
    return tag("div", tag("table", tag("caption", caption), tag("tbody", *rows)), class_="scroll")


def _code(text: str) -> Markup:
    return tag("code", text)


_LIMITS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " entries"),
)
_KINDS = {"string": "text", "array": "list", "integer": "whole number", "boolean": "true or false"}


def _kind(schema: dict[str, Any]) -> str:
    """What values a schema allows, in words."""
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kind = schema.get("type", "object")
    limits = []
    for least, most, unit in _LIMITS:
        found = [f"{float(schema[name]):,.0f}" for name in (least, most) if name in schema]
        if found:
            limits.append(" to ".join(found) + (unit if most in schema else f"{unit} or more"))
    default = schema.get("default")
    if default not in (None, []):
        limits.append(f"default {str(default).lower()}")
    shown = _KINDS.get(kind, kind)
    return f"{shown} ({'; '.join(limits)})" if limits else shown
