"""Counting, and sharing counts between processes."""

import timeit
from pathlib import Path

import orjson
import pytest

from chat_stats.service.observability import metrics
from chat_stats.service.observability.metrics import (
    CACHE_ERRORS,
    COMPUTATION_DURATION,
    PROCESSES,
    REQUESTS,
    Counts,
)
from chat_stats.service.observability.shared_counts import SharedCounts


@pytest.fixture(autouse=True)
def _nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_counts", Counts())
    monkeypatch.setattr(metrics, "_answers", {})
    monkeypatch.setattr(metrics, "_gauges", {})


def test_a_histogram_counts_a_value_on_a_bound_below_it() -> None:
    counts = Counts()
    for seconds in (0.005, 0.0051, 31):
        counts.observe(COMPUTATION_DURATION, seconds)
    cells = counts.histograms[COMPUTATION_DURATION.name][()]
    assert (cells[0], cells[1], cells[-2]) == (1, 1, 1)
    assert cells[-1] == pytest.approx(31.0101)


def test_counts_survive_being_written_and_read() -> None:
    metrics.answered("models", "hit", "rpc", 200, 0.0003)
    metrics.computed("models", "fallback", 3.0)
    metrics.cache_error("refused")
    counts = metrics.counts()
    assert Counts.decode(orjson.loads(orjson.dumps(counts.encode()))) == counts


def opened(folder: Path) -> SharedCounts:
    shared = SharedCounts(folder)
    shared.open()
    return shared


def test_counting_an_answer_takes_less_than_two_microseconds() -> None:
    def count() -> None:
        metrics.answered("models", "hit", "rpc", 200, 0.0003)

    assert min(timeit.repeat(count, number=10_000, repeat=20)) / 10_000 < 2e-6


def test_a_process_goes_on_from_the_counts_of_one_that_ended(tmp_path: Path) -> None:
    first = opened(tmp_path)
    metrics.answered("models", "hit", "rpc", 200, 0.1)
    metrics.cache_error("refused")
    first.close()
    metrics._counts, metrics._answers = Counts(), {}  # as a new process begins
    second = opened(tmp_path)
    metrics.answered("models", "hit", "rpc", 200, 0.1)
    total = second.total()
    assert total.counters[REQUESTS.name] == {("models", "hit", "rpc", "200"): 2}
    assert total.counters[CACHE_ERRORS.name] == {("refused",): 1}
    assert len(list(tmp_path.glob("*.json"))) == 1
    second.close()


def test_gauges_are_those_of_the_processes_that_run(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    two.write()
    assert one.total().gauges[PROCESSES.name] == 2
    two.close()
    assert one.total().gauges[PROCESSES.name] == 1
    one.close()


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text('{"counters": 3')
    (tmp_path / "1.json").write_text('{"counters": {"x": [[1, 2, 3]]}}')
    shared = opened(tmp_path)
    metrics.cache_error("refused")
    assert shared.total().counters[CACHE_ERRORS.name] == {("refused",): 1}
    shared.close()
