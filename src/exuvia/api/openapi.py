"""OpenAPI 3.1, assembled from the table of routes and the messages' own schemas."""

from typing import Any

import msgspec

from exuvia.api import problems
from exuvia.api.routes import Route, Who
from exuvia.errors import (
    ExuviaError,
    IdempotencyKeyReused,
    InvalidRequest,
    StoreUnavailable,
    TooManyFailures,
    UnknownCredential,
)
from exuvia.messages import Problem
from exuvia.rules.limits import LONGEST_IDEMPOTENCY_KEY

_REFERENCE = "#/components/schemas/{name}"
_SCHEMES = {
    "account": "The account number.",
    "device": "The token that a device was given when it registered.",
    "gateway": "The token that was printed when the gateway was enrolled.",
    "operator": "The operator's token.",
}


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the OpenAPI document of these routes."""
    schemas, components = _schemas(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    security = {
        name: {"type": "http", "scheme": "bearer", "description": text} for name, text in _SCHEMES.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "exuvia", "version": "1", "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": security},
    }


def _schemas(routes: tuple[Route, ...]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return the schema of each type that the routes name, and what these refer to."""
    types = [kind for route in routes for kind in (route.takes, route.gives, route.query) if kind] + [Problem]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    return dict(zip(unique, schemas, strict=True)), components


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name(route),
        "parameters": _path_parameters(route) + _query_parameters(route) + _header_parameters(route),
        "responses": {str(route.status): _answer(route, schemas), **_refusals(route, schemas)},
    }
    if route.takes is not None:
        content = {"application/json": {"schema": schemas[route.takes]}}
        operation["requestBody"] = {"required": not route.may_be_empty, "content": content}
    if route.who is not Who.ANYBODY:
        operation["security"] = [{name: []} for name in route.who.value.split(" or ")]
    return operation


def _name(route: Route) -> str:
    words = route.path.removeprefix("/v1").strip("/").replace("{", "").replace("}", "").split("/")
    return "_".join([route.method.lower(), *words])


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)[1][route.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": one}
        for name, one in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if not route.is_done_once:
        return []
    schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_IDEMPOTENCY_KEY, "pattern": "^[!-~]+$"}
    return [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema}]


def _answer(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    if route.gives is None:
        return {"description": "Done."}
    schema = schemas[route.gives]
    return {"description": "The answer.", "content": {route.media_type: {"schema": schema}}}


def _refusals(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for error in _errors(route):
        kind = problems.kind(error)
        found.setdefault(str(kind.status), []).append(kind.title)
    content = {problems.MEDIA_TYPE.decode(): {"schema": schemas[Problem]}}
    return {
        status: {"description": "; or: ".join(titles) + ".", "content": content}
        for status, titles in sorted(found.items())
    }


def _errors(route: Route) -> list[type[ExuviaError]]:
    found: list[type[ExuviaError]] = list(route.refusals)
    if route.who is not Who.ANYBODY:
        found += [UnknownCredential, StoreUnavailable]
    if route.who not in (Who.ANYBODY, Who.GATEWAY):
        found.append(TooManyFailures)
    if route.takes is not None:
        found += [InvalidRequest, problems.TooLarge, problems.WrongMediaType]
    elif route.query is not None or route.is_done_once:
        found.append(InvalidRequest)
    if route.is_done_once:
        found.append(IdempotencyKeyReused)
    return found
