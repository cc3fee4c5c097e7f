"""The plain statements behind the fallback methods, one file each; `load("name")` reads `name.sql`."""

from functools import cache
from pathlib import Path


@cache
def load(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
