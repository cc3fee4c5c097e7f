"""Counting, and sharing counts between processes."""

import timeit
from pathlib import Path

import orjson
import pytest

from service.observability import metrics
from service.observability.metrics import FOLDED_DELTAS, PROCESSES, REFRESH_DURATION, REQUESTS, Counts
from service.observability.shared_counts import SharedCounts


@pytest.fixture(autouse=True)
def _nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_counts", Counts())
    monkeypatch.setattr(metrics, "_answers", {})
    monkeypatch.setattr(metrics, "_gauges", {})


def test_a_histogram_counts_a_value_on_a_bound_below_it() -> None:
    counts = Counts()
    for seconds in (0.05, 0.051, 301):
        counts.observe(REFRESH_DURATION, seconds)
    cells = counts.histograms[REFRESH_DURATION.name][()]
    assert (cells[0], cells[1], cells[-2]) == (1, 1, 1)
    assert cells[-1] == pytest.approx(301.101)


def test_counts_survive_being_written_and_read() -> None:
    metrics.answered("models", "hit", "rpc", 200, 0.0003)
    metrics.computed("models", "fallback", 3.0)
    metrics.refreshed(1.5, ["counts", "counts"])
    counts = metrics.counts()
    assert Counts.decode(orjson.loads(orjson.dumps(counts.encode()))) == counts


def test_counting_an_answer_takes_less_than_two_microseconds() -> None:
    def count() -> None:
        metrics.answered("models", "hit", "rpc", 200, 0.0003)

    assert min(timeit.repeat(count, number=10_000, repeat=20)) / 10_000 < 2e-6


def test_a_process_continues_the_counts_of_one_that_ended(tmp_path: Path) -> None:
    first = SharedCounts(tmp_path)
    metrics.answered("models", "hit", "rpc", 200, 0.1)
    metrics.folded(3)
    first.close()
    metrics._counts, metrics._answers = Counts(), {}  # as a new process begins
    second = SharedCounts(tmp_path)
    metrics.answered("models", "hit", "rpc", 200, 0.1)
    total = second.total()
    assert total.counters[REQUESTS.name] == {("models", "hit", "rpc", "200"): 2}
    assert total.counters[FOLDED_DELTAS.name] == {(): 3}
    assert len(list(tmp_path.glob("*.json"))) == 1
    second.close()


def test_gauges_are_those_of_the_running_processes(tmp_path: Path) -> None:
    one, two = SharedCounts(tmp_path), SharedCounts(tmp_path)
    two.write()
    assert one.total().gauges[PROCESSES.name] == 2
    two.close()
    assert one.total().gauges[PROCESSES.name] == 1
    one.close()


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text('{"counters": 3')
    (tmp_path / "1.json").write_text('{"counters": {"x": [[1, 2, 3]]}}')
    shared = SharedCounts(tmp_path)
    metrics.folded(1)
    assert shared.total().counters[FOLDED_DELTAS.name] == {(): 1}
    shared.close()
