"""The models that there are, for the methods that count requests apart from them."""

from collections.abc import Iterable, Sequence

from chat_stats.service.catalogue.rows import ModelUsage
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot


async def catalogue(
    snapshot: Snapshot, deadline: Deadline, filters: Sequence[str | None] = (None, None, None)
) -> list[ModelUsage]:
    """Return the models that have a provider, with no usage yet."""
    records = await snapshot.fetch(queries.load("catalogue"), *filters, timeout=deadline.left())
    return [ModelUsage.from_record(dict(record)) for record in records]


def most_requests_first(models: Iterable[ModelUsage]) -> list[ModelUsage]:
    # The text of a UUID orders like its bytes, by which Postgres orders it.
    return sorted(models, key=lambda model: (-model.total_requests, model.model_id))
