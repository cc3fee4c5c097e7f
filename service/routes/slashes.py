"""Paths with a slash at the end: redirected to those without it, after the checks of their route.

FastAPI would redirect before any check, to the host that the request names.
"""

from collections.abc import Iterable
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from chat_stats.service.routes import parameters


async def _redirect(request: Request) -> Response:
    name = quote(request.scope["path"].removesuffix("/").rpartition("/")[2], safe="")
    query: str = request.scope["query_string"].decode("latin-1")
    # Relative: it names no host, and holds behind a proxy that takes away a part of the path.
    return Response(status_code=307, headers={"Location": f"../{name}{'?' if query else ''}{query}"})


def create_router(routers: Iterable[APIRouter]) -> APIRouter:
    """Return a route beside each GET route of these routers, with its keys and limits."""
    router = APIRouter(include_in_schema=False)
    for each in routers:
        # The route without the slash knows the parameters.
        dependencies = [part for part in each.dependencies if part.dependency is not parameters.check]
        routes = [route for route in each.routes if isinstance(route, APIRoute)]
        for path in dict.fromkeys(route.path for route in routes if "GET" in (route.methods or ())):
            router.add_api_route(
                f"{path}/", _redirect, methods=["GET", "HEAD"], dependencies=dependencies, response_model=None
            )
    return router
