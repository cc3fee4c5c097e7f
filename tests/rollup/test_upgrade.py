"""A rollup that an earlier version made, or one over tables that have changed since."""

from service.rollup import Rollup
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import assert_exact
from tests.rollup.workload import ORDINARY

#: How the first version kept days: with their slots, all in one row.
FIRST_LAYOUT = """
CREATE TABLE first AS
    SELECT * FROM chat_stats_rollup_days AS d JOIN chat_stats_rollup_slots AS s USING (model_id, day);
ALTER TABLE first ALTER slots SET NOT NULL, ADD PRIMARY KEY (model_id, day);
DROP TABLE chat_stats_rollup_days, chat_stats_rollup_slots;
ALTER TABLE first RENAME TO chat_stats_rollup_days
"""


async def test_a_rollup_of_the_first_layout_is_made_anew_by_enable(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute(FIRST_LAYOUT)
    await run_migrations(database_url)
    await rolled_up.execute(ORDINARY, 100)
    assert not await rolled_up.fetchval("SELECT chat_stats_rollup_ready()")
    await Rollup(rolled_up).enable(ignored)
    await assert_exact(rolled_up)
    await run_migrations(database_url)
    assert await rolled_up.fetchval("SELECT chat_stats_rollup_ready()")
