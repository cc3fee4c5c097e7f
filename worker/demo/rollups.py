"""The rollups of the demo: the built-in ones, and two by its own dimensions."""

from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings

#: By name: the dimension that each is kept by.
ROLLUPS = {"users": "user_id", "teams": "team"}


async def keep_rollups(settings: Settings) -> list[str]:
    """Switch the rollup on and add those of the demo, where they are not there; return the names of all."""
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)
        own = OwnRollups(rollup, settings.known_dimensions)
        there = {each.name for each in await own.list_all() if each.state == "on"}
        for name, dimension in ROLLUPS.items():
            if name not in there and dimension in settings.known_dimensions:
                wanted = await own.declare(name, [dimension], percentiles=True)
                await own.add(wanted, lambda _requests: None)
        return [each.name for each in await own.list_all()]
