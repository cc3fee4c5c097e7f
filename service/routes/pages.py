"""The web page and its files: public, since they hold no data; the page reads the API as any client does."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from chat_stats.service.errors import NotFound
from chat_stats.service.http.negotiation import accepted_codings, header_value, matches_etag
from chat_stats.service.web import Asset, load_assets

#: Nothing from elsewhere, nothing inline, no eval, in no frame but of settings; and no script may turn text
#: into HTML (trusted types), so that a name in the database can be nothing but text.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors {ancestors}",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "Accept-Encoding",
}


def create_router(frame_ancestors: Sequence[str] = ()) -> APIRouter:
    """Return the routes of `/` and `/static/...`; the files are read here, once."""
    assets = load_assets()
    policy = CONTENT_SECURITY_POLICY.format(ancestors=" ".join(frame_ancestors) or "'none'")
    router = APIRouter(include_in_schema=False)

    async def page(request: Request) -> Response:
        return send(request, assets[""], policy)

    async def static(request: Request, path: str) -> Response:
        asset = assets.get(f"static/{path}")
        if asset is None:
            raise NotFound("there is no such file")
        return send(request, asset, policy)

    router.add_api_route("/", page, methods=["GET", "HEAD"], name="page")
    router.add_api_route("/static/{path:path}", static, methods=["GET", "HEAD"], name="static")
    return router


def send(request: Request, asset: Asset, policy: str) -> Response:
    """Return the file; 304 and no body when the client has it."""
    headers = {
        "Content-Security-Policy": policy,
        **_HEADERS,
        "ETag": asset.etag,
        "Cache-Control": asset.cache_control,
    }
    if matches_etag(header_value(request.scope["headers"], b"if-none-match"), asset.etag.encode()):
        return Response(status_code=304, headers=headers)
    body = asset.body
    if "gzip" in accepted_codings(header_value(request.scope["headers"], b"accept-encoding")):
        body, headers["Content-Encoding"] = asset.compressed, "gzip"
    return Response(body, media_type=asset.media_type, headers=headers)
