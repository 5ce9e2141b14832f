"""Pages for people: `/` leads to `/docs`, which works without internet, as its scripts come from a package.

Open to everybody, like /openapi.json, which they show.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

TITLE = "llada_exp"
PARTS = "/docs-parts"
_OF_FASTAPI = ("/docs", "/docs/oauth2-redirect", "/redoc")


def install_documentation(app: FastAPI) -> None:
    """In the place of FastAPI's own pages, which load their scripts from the internet."""
    app.router.routes[:] = [r for r in app.router.routes if getattr(r, "path", None) not in _OF_FASTAPI]
    app.title = TITLE
    app.mount(PARTS, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-parts")
    for path, page in (("/", _root), ("/docs", _swagger), ("/redoc", _redoc)):
        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)


async def _root(http: Request) -> Response:
    return RedirectResponse(f"{_prefix(http)}/docs")


async def _swagger(http: Request) -> Response:
    prefix = _prefix(http)
    return get_swagger_ui_html(
        title=f"{TITLE}: the API",
        openapi_url=f"{prefix}/openapi.json",
        swagger_js_url=f"{prefix}{PARTS}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{PARTS}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{PARTS}/favicon.png",
    )


async def _redoc(http: Request) -> Response:
    prefix = _prefix(http)
    return get_redoc_html(
        title=f"{TITLE}: the API",
        openapi_url=f"{prefix}/openapi.json",
        redoc_js_url=f"{prefix}{PARTS}/redoc.standalone.js",
        redoc_favicon_url=f"{prefix}{PARTS}/favicon.png",
        with_google_fonts=False,
    )


def _prefix(http: Request) -> str:
    """Where a proxy in front has put this server."""
    return str(http.scope.get("root_path", "")).rstrip("/")
