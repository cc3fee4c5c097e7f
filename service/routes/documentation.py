"""The OpenAPI document as a page at /docs, without anything from elsewhere.

Swagger UI comes with the package fastapi-swagger, of which nothing else is used: the page that it and FastAPI
would serve has its script inline, which the content security policy does not allow.
"""

from functools import cache
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from chat_stats.service.errors import NotFound
from chat_stats.service.routes.pages import send
from chat_stats.service.web import IMMUTABLE, REVALIDATED, Asset

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>chat-stats: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{version}/swagger-ui.css">
<script defer src="docs/{version}/swagger-ui-bundle.js"></script>
<script defer src="docs/{version}/start.js"></script>
</head>
<body>
<div id="swagger-ui"></div>
</body>
</html>
"""
_START = 'SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });\n'

#: Nothing from elsewhere and no inline script. Swagger UI sets styles, and has icons within its style sheet.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@cache  # at the first request: compressing takes a while
def _asset(name: str) -> Asset:
    if name == "start.js":
        body = _START.encode()
    else:
        body = (files("fastapi_swagger") / "resources" / name).read_bytes()
    return Asset(body, _MEDIA_TYPES[name.rpartition(".")[2]], IMMUTABLE)


def create_router() -> APIRouter:
    """Return the routes of `/docs` and its files, whose path changes with their version."""
    router = APIRouter(include_in_schema=False)
    folder = version("fastapi-swagger")
    page = Asset(_PAGE.format(version=folder).encode(), "text/html; charset=utf-8", REVALIDATED)

    async def docs(request: Request) -> Response:
        return send(request, page, CONTENT_SECURITY_POLICY)

    # Not in the event loop: the first one compresses the file.
    def file(request: Request, name: str) -> Response:
        if name not in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
            raise NotFound("there is no such file")
        return send(request, _asset(name), CONTENT_SECURITY_POLICY)

    router.add_api_route("/docs", docs, methods=["GET", "HEAD"], name="docs")
    router.add_api_route(f"/docs/{folder}/{{name}}", file, methods=["GET", "HEAD"], name="docs_file")
    return router
