"""The contract of executors on Ray, and Ray's own ways: lost workers and sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studbook.errors import ConfigError, UnitFailedError, WorkerLostError
from studbook.execution import Executor, RayExecutor
from studbook.testing.executors import ExecutorContract, die_always, die_first, raise_unknown, square

ray = pytest.importorskip("ray", reason="needs the extra 'cluster'")
pytestmark = pytest.mark.ray


def test_session_of_the_run_is_closed_at_its_end() -> None:
    results = RayExecutor(2).run(square, [2, 3])
    assert not ray.is_initialized()
    first = next(results)
    assert ray.is_initialized() and ray.cluster_resources()["CPU"] == 2
    assert sorted([first, *results]) == [(0, 4), (1, 9)]
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_cluster_that_does_not_answer(address: str) -> None:
    with pytest.raises(ConfigError, match="no Ray cluster answers at"):
        list(RayExecutor(2, address=address).run(square, [2]))
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
    patch.undo()


@pytest.mark.usefixtures("session")
class TestContract(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return RayExecutor(2)


@pytest.mark.usefixtures("session")
class TestInOpenSession:
    def test_session_stays_open(self) -> None:
        assert sorted(RayExecutor().run(square, [2, 3])) == [(0, 4), (1, 9)]
        assert ray.is_initialized()

    def test_task_of_a_killed_worker_runs_again(self, tmp_path: Path) -> None:
        paths = [tmp_path / str(i) for i in range(2)]
        assert sorted(RayExecutor(2).run(die_first, paths)) == [(0, 2), (1, 2)]

    def test_task_that_kills_its_workers_is_given_up_and_named(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerLostError, match=r"task 0 lost its Ray worker 2 times, last by WorkerCrashedError"):
            list(RayExecutor(2, retries=1).run(die_always, [tmp_path / "calls"]))
        assert (tmp_path / "calls").stat().st_size == 2

    def test_error_is_not_retried(self, tmp_path: Path) -> None:
        with pytest.raises(UnitFailedError, match="task 0 raised KeyError"):
            list(RayExecutor(2, retries=5).run(raise_unknown, [tmp_path / "calls"]))
        time.sleep(0.5)
        assert (tmp_path / "calls").stat().st_size == 1

    def test_what_this_process_alone_defines_travels(self) -> None:
        step = 3
        assert sorted(RayExecutor(2).run(lambda x: x + step, [1, 2])) == [(0, 4), (1, 5)]
