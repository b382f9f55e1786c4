"""The executors keep the contract that is shipped for others; Ray's turn is in tests/integration, where its session is open."""

from __future__ import annotations

import pytest

from studbook.execution import Executor, LocalExecutor, ProcessExecutor
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
