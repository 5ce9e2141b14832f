"""The OpenAPI description at /openapi.json and /docs.

The routes read bodies themselves (for error messages of our own), so FastAPI cannot see their types;
they are added here from the same pydantic models that check them.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from llada_exp.server.routes.schema import ChatRequest, CompletionRequest

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
}
ERRORS = {"400": "the request is at fault", "401": "wrong or missing key", "404": "no such model or path",
          "408": "its max_time is over", "413": "too large a body", "429": "the queue is full",
          "503": "not ready, draining, or the worker died"}  # fmt: skip
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def describe_api(app: FastAPI, version: str) -> None:
    """Let `app` describe itself."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _schema(app, version)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schema(app: FastAPI, version: str) -> dict[str, Any]:
    about = "Masked-diffusion language models over OpenAI's API. Decoding parameters are plain fields."
    tree = get_openapi(title="llada_exp", version=version, description=about, routes=app.routes)
    parts = tree.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's shapes, which nobody gets
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in tree["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["security"] = [] if path == "/health" else [{}, {"key": []}]
            if path in BODIES:
                operation["requestBody"] = _body(BODIES[path], schemas)
                operation["responses"]["200"]["content"].setdefault("text/event-stream", {})
                for status, reason in ERRORS.items():
                    operation["responses"][status] = {"description": reason, "content": error}
    return tree


def _body(kind: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    tree = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(tree.pop("$defs", {}))
    schemas[kind.__name__] = tree
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"required": True, "content": {"application/json": {"schema": reference}}}
