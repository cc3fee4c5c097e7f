"""The rows of a question's answer as a download: flat, in the formats of single requests."""

from datetime import datetime
from typing import Any

import orjson

from chat_stats.service.cache.entry import Entry
from chat_stats.service.catalogue.figures import figure_of
from chat_stats.service.catalogue.questions import Question
from chat_stats.service.explorer.exports import Format, encoder


async def download(entry: Entry, question: Question, format_: Format) -> bytes:
    """Return the rows of `entry`, the answer to `question`, in that format."""
    kinds = columns(question)
    rows = flat_rows(entry)
    writer = encoder(format_, list(kinds), kinds)
    try:
        parts = [await writer.start()]
        parts.append((await writer.rows([tuple(row.get(name) for name in kinds) for row in rows]))[0])
        parts.append(await writer.end({}))
        return b"".join(parts)
    finally:
        await writer.close()


def flat_rows(entry: Entry) -> list[dict[str, Any]]:
    """Return the rows of an answer as `columns` names their fields."""
    return [_flat(row) for row in orjson.loads(entry.body)]


def columns(question: Question) -> dict[str, str]:
    """Return the columns of a row with their kinds, as Parquet has them."""
    kinds = {"bucket_start": "moment"} if question.bucket else {}
    for dimension in question.group_by:
        kinds[dimension.name] = "text"
        if dimension.is_id:
            kinds[dimension.name_field] = "text"
    figures = {name: figure_of(name).type for name in question.figures}
    kinds |= figures
    if question.compare is not None:
        kinds |= {f"previous_{name}": kind for name, kind in figures.items()}
        kinds |= {f"change_{name}": "float" for name in figures}
    return kinds


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in row.items() if name not in ("previous", "change")}
    if "bucket_start" in flat:
        flat["bucket_start"] = datetime.fromisoformat(flat["bucket_start"])
    for part in ("previous", "change"):
        flat |= {f"{part}_{name}": value for name, value in row.get(part, {}).items()}
    return flat
