"""Each route that reads answers GET and HEAD: under one name, so that metrics count both as one endpoint."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response


def add_read_route(
    router: APIRouter, path: str, endpoint: Callable[..., Any], *, name: str, **documented: Any
) -> None:
    """Add both; `documented` is what the OpenAPI document says of GET."""
    router.add_api_route(path, endpoint, name=name, response_class=Response, **documented)
    router.add_api_route(
        path, endpoint, name=name, methods=["HEAD"], response_class=Response, include_in_schema=False
    )
