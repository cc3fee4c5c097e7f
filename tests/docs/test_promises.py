"""Each sentence about what chat-stats does to a database is held by tests."""

import ast
import re

import pytest

from chat_stats.service.database.locks import LOCK_MS, LOCK_PAUSE_SECONDS
from chat_stats.service.rollup import chunks, retention
from tests.docs.documents import ROOT, sections

CHAPTER = sections(ROOT / "docs/operations.md")[
    "What chat-stats may do to your database, and what it never does"
]

#: By the words in bold that a sentence begins with: the tests that hold it.
HELD_BY = {
    "In the schema of the tables": """
        tests/rollup/test_footprint.py::test_nothing_is_created_outside_of_the_schema_of_the_tables
        tests/sql/test_migrations.py::test_an_empty_database_gets_tables_indexes_and_functions
        tests/docs/test_sql_functions.py::test_every_public_function_is_documented_as_it_is
    """,
    "On the requests": """
        tests/sql/test_indexes.py::test_all_are_built_where_there_are_none
        tests/sql/test_indexes.py::test_none_is_built_where_an_equivalent_one_exists
    """,
    "Four triggers": """
        tests/rollup/test_footprint.py::
            test_all_that_the_rollup_changes_of_the_gateways_are_triggers_which_disable_drops
        tests/rollup/test_partitions.py::
            test_a_new_partition_makes_answers_scan_until_it_has_its_triggers
        tests/rollup/test_uncounted_writes.py::test_an_enable_that_fails_later_takes_its_triggers_away
    """,
    "Your own tables": """
        tests/sql/test_migrations.py::test_an_empty_database_gets_tables_indexes_and_functions
        tests/sql/test_migrations.py::test_a_missing_table_beside_the_others_is_named_and_never_created
        tests/sql/test_migrations.py::test_a_schema_with_other_tables_alone_is_taken_for_the_wrong_one
    """,
    "Your tables, columns, indexes, constraints, views, triggers and functions": """
        tests/sql/test_schema_matrix.py::test_migrating_alters_and_drops_nothing_that_it_did_not_create
        tests/rollup/test_footprint.py::
            test_all_that_the_rollup_changes_of_the_gateways_are_triggers_which_disable_drops
        tests/sql/test_foreign_functions.py::test_a_foreign_function_is_kept_under_another_name
        tests/sql/test_foreign_functions.py::test_a_view_on_a_foreign_function_goes_on_working
        tests/sql/test_foreign_functions.py::test_functions_of_our_names_in_other_schemas_are_left_alone
    """,
    "Your rows": """
        tests/sql/test_schema_matrix.py::test_migrating_alters_and_drops_nothing_that_it_did_not_create
        tests/rollup/test_footprint.py::
            test_all_that_the_rollup_changes_of_the_gateways_are_triggers_which_disable_drops
        tests/rollup/test_footprint.py::test_what_reads_is_read_only_has_time_limits_and_a_name
    """,
    "Requests are deleted": """
        tests/rollup/test_retention.py::test_the_requests_are_gone_and_every_statistic_has_stayed
        tests/rollup/test_retention.py::
            test_where_the_rollup_differs_nothing_is_deleted_and_it_is_not_read_any_more
        tests/rollup/test_retention.py::test_a_dry_run_changes_nothing_and_says_what_a_run_then_does
    """,
    "Rows are inserted": """
        tests/acceptance/test_cli.py::test_the_sample_fills_only_an_empty_database
        tests/acceptance/test_demo.py::test_a_given_database_with_rows_stays_as_it_is
        tests/rollup/test_footprint.py::
            test_all_that_the_rollup_changes_of_the_gateways_are_triggers_which_disable_drops
    """,
    "Rights on your own": """
        tests/sql/test_rights.py::test_the_gateways_own_tables_and_functions_keep_their_rights
    """,
    "No write fails": """
        tests/rollup/test_uncounted_writes.py::test_writes_go_on_when
        tests/rollup/test_uncounted_writes.py::test_writes_go_on_without
        tests/rollup/test_uncounted_writes.py::test_writes_go_on_when_the_deltas_lack_a_column
        tests/rollup/test_uncounted_writes.py::test_writes_go_on_when_the_table_is
        tests/rollup/test_changed_types.py::
            test_model_ids_may_become_bigint_while_the_rollup_is_on_and_no_writer_is_harmed
    """,
    "Partitions": """
        tests/rollup/test_partitions.py::test_what_is_written_to_a_partition_directly_counts
        tests/rollup/test_partitions.py::
            test_a_new_partition_makes_answers_scan_until_it_has_its_triggers
        tests/rollup/test_partitions.py::
            test_a_partition_that_is_attached_with_its_rows_is_counted_once_it_is_covered
        tests/rollup/test_partitions.py::
            test_a_detached_partition_is_written_without_harm_and_recounted_when_it_is_back
        tests/rollup/test_partitions.py::test_what_goes_with_a_partition_is_kept
    """,
    "A write that cannot be counted": """
        tests/rollup/test_uncounted_writes.py::test_writes_go_on_when
        tests/rollup/test_uncounted_writes.py::test_a_write_that_is_rolled_back_leaves_no_mark
        tests/rollup/test_uncounted_writes.py::
            test_a_repair_whose_cause_is_not_gone_says_so_and_leaves_the_rollup_unread
    """,
    "Why answers scan": """
        tests/integration/test_rollup_state.py::test_they_say_why_it_is_damaged_when
        tests/integration/test_rollup_state.py::test_they_say_that_our_role_scans_when
    """,
    "Each statement": """
        tests/rollup/test_footprint.py::test_a_statement_appends_a_row_for_each_request_that_it_changed
    """,
    "No transaction id": """
        tests/rollup/test_uncounted_writes.py::
            test_a_counted_write_costs_no_transaction_id_of_its_own
    """,
    "No write waits": """
        tests/rollup/test_footprint.py::test_no_write_waits_for
        tests/rollup/test_audit.py::
            test_an_audit_neither_waits_for_writers_nor_counts_what_they_did_not_commit
        tests/rollup/test_concurrency.py::
            test_no_reader_sees_a_number_that_a_scan_in_its_snapshot_would_not_give
    """,
    "Writers need no right": """
        tests/rollup/test_rights.py::test_who_may_insert_and_nothing_else_can_still_write
        tests/rollup/test_rights.py::
            test_who_may_update_delete_and_truncate_the_requests_needs_nothing_more
    """,
    "Triggers": """
        tests/docs/test_promises.py::test_the_figures_are_those_of_the_code
        tests/rollup/test_enable.py::
            test_it_is_exact_over_a_table_that_is_written_to_and_keeps_no_writer_waiting
        tests/rollup/test_enable.py::
            test_while_a_long_transaction_is_open_writers_wait_only_for_a_moment_at_a_time
    """,
    "Indexes": """
        tests/sql/test_indexes.py::test_writers_that_start_during_the_build_do_not_wait
        tests/sql/test_indexes.py::
            test_writers_of_partitions_do_not_wait_while_the_whole_adopts_their_indexes
    """,
    "Audits and repairs": """
        tests/docs/test_promises.py::test_the_figures_are_those_of_the_code
        tests/rollup/test_footprint.py::test_no_write_waits_for
        tests/rollup/test_audit.py::test_an_audit_compares_a_bounded_number_of_requests
    """,
    "A purge": """
        tests/docs/test_promises.py::test_the_figures_are_those_of_the_code
        tests/rollup/test_retention_obstacles.py::
            test_a_purge_waits_for_a_locked_request_or_leaves_it
        tests/rollup/test_retention_obstacles.py::
            test_what_others_write_meanwhile_is_neither_lost_nor_counted_twice
    """,
    "What only reads": """
        tests/rollup/test_footprint.py::test_what_reads_is_read_only_has_time_limits_and_a_name
    """,
    "Sessions": """
        tests/rollup/test_footprint.py::test_what_reads_is_read_only_has_time_limits_and_a_name
    """,
    "Two functions": """
        tests/rollup/test_footprint.py::
            test_the_triggers_functions_alone_run_with_their_owners_rights_and_set_what_they_search
        tests/rollup/test_damage.py::
            test_no_role_can_attach_the_recording_functions_to_its_own_table
    """,
    "Nothing that others plant": """
        tests/sql/test_planted_objects.py::test_nothing_that_others_planted_runs
        tests/sql/test_planted_objects.py::
            test_a_table_with_a_name_of_ours_that_others_own_is_refused_and_its_trigger_never_runs
        tests/sql/test_planted_objects.py::
            test_a_superuser_does_not_adopt_a_function_of_ours_that_others_own
    """,
    "Our tables and functions": """
        tests/sql/test_rights.py::test_default_privileges_and_public_give_no_right_on_what_is_created
        tests/sql/test_rights.py::
            test_what_an_older_version_or_a_statement_left_open_is_closed_by_the_next_migrate
    """,
    "No role reads more": """
        tests/sql/test_function_callers.py::
            test_a_role_without_rights_on_the_tables_gets_nothing_through_the_functions
        tests/rollup/test_rights.py::test_who_may_not_read_the_rollup_gets_the_same_numbers_by_a_scan
        tests/rollup/test_rights.py::test_who_may_see_only_some_requests_does_not_get_the_numbers_of_all
        tests/sql/test_rights.py::test_a_reader_that_may_not_see_all_requests_gets_no_sums_of_them
    """,
    "Row level security": """
        tests/sql/test_row_security.py::test_statistics_of_some_requests_are_refused
        tests/sql/test_row_security.py::test_hidden_sums_of_purged_requests_are_an_error
        tests/integration/test_row_security.py::
            test_every_answer_that_is_not_cached_is_a_problem_that_says_so
    """,
}


def test_each_sentence_is_held_by_tests_and_each_entry_holds_a_sentence() -> None:
    sentences = re.findall(r"^- (.*)$", CHAPTER, re.MULTILINE)
    beginnings = re.findall(r"^- \*\*(.+?)\*\*", CHAPTER, re.MULTILINE | re.DOTALL)
    assert len(beginnings) == len(sentences)
    assert beginnings == list(HELD_BY)


@pytest.mark.parametrize("beginning", HELD_BY)
def test_the_tests_of_a_sentence_exist(beginning: str) -> None:
    held_by = re.findall(r"(\S+\.py)::\s*(\w+)", HELD_BY[beginning])
    assert len(held_by) == HELD_BY[beginning].count("::") > 0
    for file, name in held_by:
        assert name in _names_of_tests(file), f"{file}::{name}"


def _names_of_tests(file: str) -> set[str]:
    """Return the names of the tests that run: none of them is skipped by a decorator."""
    return {
        node.name
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not any("skip" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def test_the_figures_are_those_of_the_code() -> None:
    chapter = " ".join(CHAPTER.split())
    assert f"at most {LOCK_MS / 1000:g} s at a time, and try again after {LOCK_PAUSE_SECONDS:g} s" in chapter
    assert f"about {chunks.CHUNK_REQUESTS:,} requests at a time in a repair" in chapter
    assert f"about {retention.BATCH_REQUESTS:,} requests in a transaction" in chapter
    assert f"longer than {retention.LOCK_MS / 1000:g} s for a request that is locked" in chapter
    assert retention.PAUSE == 1, "pauses for as long as it took"
