"""The three executors keep the contract that is shipped for others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from studbook.execution import Executor, LocalExecutor, ProcessExecutor, RayExecutor
from studbook.testing.executors import ExecutorContract


class TestLocal(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return LocalExecutor()


class TestOneProcess(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return ProcessExecutor(1)


class TestTwoProcesses(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return ProcessExecutor(2)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="needs the extra 'cluster'")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
    patch.undo()


@pytest.mark.ray
class TestRay(ExecutorContract):
    @pytest.fixture
    def executor(self, ray_session: None) -> Executor:
        return RayExecutor(2)
