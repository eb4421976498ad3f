"""OpenAPI 3.1, generated from the routes and their shapes, so that it cannot say anything else than the code does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from iot_core import __version__
from iot_core.api import shapes

if TYPE_CHECKING:
    from iot_core.api.routes import Route

__all__ = ["document"]

_REFS: Final = "#/components/schemas/{name}"


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Describe the API."""
    schemas = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(shapes.PREFIX + route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "iot-core",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "iot_session"},
            },
        },
    }


class _Schemas:
    """The shapes of all routes, each in its place."""

    def __init__(self, kinds: Sequence[Any]) -> None:
        found, self.components = msgspec.json.schema_components(kinds, ref_template=_REFS)
        self._of = dict(zip(kinds, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """Refer to a shape."""
        found: dict[str, Any] = self._of[kind]
        return found

    def fields(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """Give the properties of a flat shape."""
        found: dict[str, Any] = self.components[kind.__name__]["properties"]
        return found


def _schemas(routes: Sequence[Route]) -> _Schemas:
    kinds: dict[Any, None] = {shapes.Problem: None}
    for route in routes:
        kinds.update(dict.fromkeys((route.query, *((route.body,) if route.body else ()), *_answers(route))))
    return _Schemas(list(kinds))


def _answers(route: Route) -> list[Any]:
    if route.lines is not None:
        return [route.lines]
    return list(route.events.values()) if _is_stream(route) else [route.answer]


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__.strip('_')}",
        "summary": (route.handler.__doc__ or "").partition("\n")[0],
        "tags": [route.path.split("/")[1]],
        "security": [{"token": []}, {"session": []}] if route.action else [{}],
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas),
    }
    if route.action:
        operation["x-action"] = route.action.value
    if route.body:
        operation["requestBody"] = {
            "required": bool(schemas.components[route.body.__name__].get("required")),
            "content": {"application/json": {"schema": schemas.of(route.body)}},
        }
    return operation


def _parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if name == "id" else "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    required = schemas.components[route.query.__name__].get("required", [])
    in_query = [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in schemas.fields(route.query).items()
    ]
    return in_path + in_query


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    problem = {
        "description": "A problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": schemas.of(shapes.Problem)}},
    }
    content: dict[str, Any]
    if route.lines is not None:
        content = {"application/x-ndjson": {"schema": {"type": "string"}, "x-line": schemas.of(route.lines)}}
    elif _is_stream(route):
        said = [schemas.of(kind) for kind in route.events.values()]
        # What stands in `data:`; which one it is, the line `event:` says.
        content = {
            "text/event-stream": {"schema": {"type": "string"}, "x-data": dict(zip(route.events, said, strict=True))}
        }
    else:
        content = {"application/json": {"schema": schemas.of(route.answer)}}
    return {str(route.status): {"description": "Done", "content": content}, "default": problem}


def _is_stream(route: Route) -> bool:
    return route.answer is web.StreamResponse
