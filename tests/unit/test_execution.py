"""Executors by name, their ranges, outcomes, and the one-thread rule in this process."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest

from studbook.errors import ConfigError, DataError, MissingExtraError, StorageError, UnitFailedError
from studbook.execution import EXECUTORS, MAX_WORKERS, LocalExecutor, ProcessExecutor, RayExecutor, create_executor
from studbook.execution.outcomes import Failure, Success, attempt, encode, pack_function
from studbook.execution.threads import BLAS_ENVIRONMENT, environment
from studbook.testing.executors import count_threads, raise_stubborn, raise_unknown, return_lock, square


def test_creates_each_by_name() -> None:
    assert create_executor("local", 1) == LocalExecutor()
    assert create_executor("processes", 3) == ProcessExecutor(3)
    assert create_executor("ray", 2) == RayExecutor(2)
    assert EXECUTORS == ("local", "processes", "ray")


@pytest.mark.parametrize(("name", "nearest"), [("process", "processes"), ("Local", "local"), ("rai", "ray")])
def test_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f'unknown executor "{name}".*local, processes, ray.*did you mean "{nearest}"'):
        create_executor(name, 1)  # type: ignore[arg-type]


def test_unknown_name_unlike_any_has_no_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        create_executor("slurm", 1)  # type: ignore[arg-type]
    assert caught.value.hint is None


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1, 10**12, True, 2.0, "2"])
@pytest.mark.parametrize("name", EXECUTORS)
def test_refuses_a_number_of_workers_out_of_range(name: str, workers: int) -> None:
    with pytest.raises(ConfigError, match=r"workers is .* expected a whole number from 1 to 1,024"):
        create_executor(name, workers)  # type: ignore[arg-type]


def test_local_has_one_worker() -> None:
    with pytest.raises(ConfigError, match=r'"local" has one worker, got 2.*"processes"'):
        create_executor("local", 2)


@pytest.mark.parametrize("kind", [ProcessExecutor, RayExecutor])
@pytest.mark.parametrize("retries", [-1, 101, 1.5])
def test_refuses_retries_out_of_range(kind: type[ProcessExecutor | RayExecutor], retries: int) -> None:
    with pytest.raises(ConfigError, match="retries is"):
        kind(workers=1, retries=retries)


def test_ray_that_is_not_installed_is_named_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        create_executor("ray", 2)
    assert caught.value.hint == "pip install 'studbook[cluster]'"


def test_local_keeps_the_original_traceback(tmp_path: Path) -> None:
    with pytest.raises(UnitFailedError) as caught:
        list(LocalExecutor().run(raise_unknown, [tmp_path / "calls"]))
    frames = caught.value.__cause__.__traceback__
    assert frames is not None
    while frames.tb_next is not None:
        frames = frames.tb_next
    assert frames.tb_frame.f_code.co_name == "raise_unknown"


def test_local_gives_the_threads_back_between_results() -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=2):
        results = LocalExecutor().run(count_threads, [0, 0])
        assert next(results) == (0, 1)
        assert count_threads(0) == 2
        assert next(results) == (1, 1)


def test_local_restores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert list(LocalExecutor().run(os.environ.get, [*BLAS_ENVIRONMENT])) == list(enumerate(["1"] * len(BLAS_ENVIRONMENT)))
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_environment_is_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDBOOK_TEST", "before")
    with pytest.raises(ValueError, match="inside"), environment({"STUDBOOK_TEST": "within"}):
        raise ValueError(f"inside, {os.environ['STUDBOOK_TEST']}")
    assert os.environ["STUDBOOK_TEST"] == "before"


def test_local_passes_ctrl_c_through() -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LocalExecutor().run(interrupt, [0]))


def test_outcome_of_a_result_survives_the_way() -> None:
    assert pickle.loads(encode(Success({"a": 1}))) == Success({"a": 1})


def test_outcome_of_an_error_keeps_the_remote_traceback(tmp_path: Path) -> None:
    failure = pickle.loads(encode(attempt(raise_unknown, tmp_path / "calls")))
    with pytest.raises(UnitFailedError) as caught:
        failure.result(4)
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError) and "in raise_unknown" in str(cause.__cause__)


def test_studbook_error_names_its_task_in_a_note() -> None:
    with pytest.raises(StorageError) as caught:
        Failure.of(StorageError("disk full", hint="make room")).result(9)
    assert caught.value.__notes__ == ["raised by task 9"]


@pytest.mark.parametrize(("task", "text"), [(return_lock, "TypeError: cannot pickle"), (raise_stubborn, "StubbornError: holds a lock")])
def test_what_cannot_travel_becomes_a_failure_that_says_so(task: object, text: str, tmp_path: Path) -> None:
    failure = pickle.loads(encode(attempt(task, tmp_path / "calls")))  # type: ignore[arg-type]
    assert isinstance(failure, Failure) and text in failure.summary


def test_summary_is_one_short_line() -> None:
    assert Failure.of(DataError("first\nsecond")).summary == "DataError: first"
    assert len(Failure.of(ValueError("x" * 10_000)).summary) < 400
    assert Failure.of(ValueError()).summary == "ValueError"


def test_function_that_cannot_be_sent_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"lambda> can't be sent to workers.*top level of a module"):
        pack_function(lambda x: x, pickle.dumps)
    assert pickle.loads(pack_function(square, pickle.dumps)) is square
