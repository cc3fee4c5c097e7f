"""The plain statements behind the fallback methods, one template each; `load("name")` renders `name.sql`."""

from functools import cache

from service.rendering import declared


@cache
def load(name: str) -> str:
    return declared().render(f"{name}.sql")
