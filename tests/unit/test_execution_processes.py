"""Worker processes: how they live, die and end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studbook.errors import ConfigError, UnitFailedError, WorkerLostError
from studbook.execution import ProcessExecutor
from studbook.testing.executors import (
    abandon_child,
    count_threads,
    die_always,
    die_by_name,
    die_first,
    find_process,
    nap,
    nap_or_raise,
    raise_unknown,
    return_lock,
    square,
)

DEADLINE_S = 30.0
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="watches processes through Linux's /proc")


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in reasonable time."""
    end = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def alive(process_id: int) -> bool:
    """Whether that process runs; one that is dead and not collected by its parent doesn't."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False


def children() -> list[int]:
    """Processes whose parent is this one, the dead that nobody collected included."""
    listed = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
    return [int(child) for child in listed]


def napping(folder: Path, count: int) -> list[int]:
    """The processes of ``count`` tasks, once they nap."""
    assert eventually(lambda: sum(bool(file.read_text()) for file in folder.glob("started-*")) >= count)
    return [int(file.read_text()) for file in folder.glob("started-*")]


def test_workers_live_for_all_tasks() -> None:
    processes = {process for _, process in ProcessExecutor(2).run(find_process, range(50))}
    assert len(processes) == 2 and os.getpid() not in processes


def test_no_more_workers_than_tasks() -> None:
    before = set(children())
    results = ProcessExecutor(16).run(square, [1, 2])
    next(results)
    assert len(set(children()) - before) <= 2
    assert len(list(results)) == 1


def test_no_process_is_left_behind() -> None:
    before = set(children())
    assert len(list(ProcessExecutor(2).run(square, range(5)))) == 5
    assert set(children()) == before


def test_task_of_a_killed_worker_runs_again(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(4)]
    assert sorted(ProcessExecutor(2).run(die_first, paths)) == [(i, 2) for i in range(4)]


def test_task_that_kills_its_workers_is_given_up_and_named(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("first", "second", "always")]
    got: dict[int, int] = {}
    with pytest.raises(WorkerLostError, match=r"task 2 lost its worker process 2 times, last by signal SIGKILL.*out of memory"):
        got.update(ProcessExecutor(1, retries=1).run(die_by_name, paths))
    assert got == {0: 2, 1: 2}  # One death is forgiven, and what was finished stays.
    assert paths[2].stat().st_size == 2


def test_no_retries_means_one_try(tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError, match=r"task 0 lost its worker process, by signal SIGKILL"):
        list(ProcessExecutor(2, retries=0).run(die_always, [tmp_path / "calls"]))
    assert (tmp_path / "calls").stat().st_size == 1


@pytest.mark.timeout(60)  # The orphan lives longer.
def test_dead_worker_is_noticed_though_its_child_holds_the_line(tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError):
        list(ProcessExecutor(1, retries=0).run(abandon_child, [tmp_path / "child"]))
    orphan = int((tmp_path / "child").read_text())
    assert alive(orphan)
    os.kill(orphan, signal.SIGKILL)


def test_error_in_a_task_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(UnitFailedError, match="task 1 raised"):
        list(ProcessExecutor(2).run(nap_or_raise, [(tmp_path, 60.0), (tmp_path, -1.0)]))
    assert not list(tmp_path.glob("done-*"))


def test_remote_traceback_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UnitFailedError) as caught:
        list(ProcessExecutor(1).run(raise_unknown, [tmp_path / "calls"]))
    assert "in raise_unknown" in str(caught.value.__cause__.__cause__)


def test_result_that_cannot_travel_is_an_error_of_its_task(tmp_path: Path) -> None:
    with pytest.raises(UnitFailedError, match="task 0 raised TypeError: cannot pickle"):
        list(ProcessExecutor(1).run(return_lock, [tmp_path / "calls"]))


def test_task_that_cannot_travel_is_named() -> None:
    with pytest.raises(UnitFailedError, match="task 1 raised TypeError: cannot pickle"):
        list(ProcessExecutor(1).run(find_process, [0, threading.Lock()]))


def test_function_that_cannot_travel_starts_no_worker() -> None:
    before = set(children())
    with pytest.raises(ConfigError, match="can't be sent to workers"):
        next(ProcessExecutor(2).run(lambda x: x, [1]))
    assert set(children()) == before


def test_threads_are_one_whatever_the_parent_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert dict(ProcessExecutor(1).run(count_threads, [0])) == {0: 1}
    assert dict(ProcessExecutor(1).run(os.getenv, ["NUMBA_NUM_THREADS"])) == {0: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_closing_ends_the_workers_at_once(tmp_path: Path) -> None:
    results = ProcessExecutor(2).run(nap, [(tmp_path, 0.0), (tmp_path, 60.0), (tmp_path, 60.0)])
    next(results)
    processes = napping(tmp_path, 3)
    results.close()  # type: ignore[attr-defined]
    assert not any(map(alive, processes))


def test_modules_of_the_working_folder_do_not_shadow_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "socket", "pickle", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert list(ProcessExecutor(1).run(square, [3])) == [(0, 9)]


SCRIPT = """
import sys
from pathlib import Path
from studbook.execution import ProcessExecutor
from studbook.testing.executors import nap
folder = Path(sys.argv[1])
list(ProcessExecutor(2).run(nap, [(folder, 120.0)] * 4))
"""


def start_script(folder: Path, text: str = SCRIPT) -> subprocess.Popen[str]:
    """A program of its own, in a process group of its own, as a terminal gives it."""
    command = [sys.executable, "-c", text, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)


def test_ctrl_c_ends_the_workers_without_noise(tmp_path: Path) -> None:
    script = start_script(tmp_path)
    processes = napping(tmp_path, 2)
    os.killpg(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=DEADLINE_S)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")  # The parent's own, alone.
    assert not any(map(alive, processes))


def test_ctrl_c_while_workers_start_makes_no_noise(tmp_path: Path) -> None:
    text = SCRIPT.replace("list(", "(folder / 'ready').touch(); list(")
    script = start_script(tmp_path, text)
    children_file = Path(f"/proc/{script.pid}/task/{script.pid}/children")
    assert eventually(lambda: (tmp_path / "ready").exists() and len(children_file.read_text().split()) >= 1)
    os.killpg(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=DEADLINE_S)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")


def test_workers_end_soon_after_a_killed_parent(tmp_path: Path) -> None:
    script = start_script(tmp_path)
    processes = napping(tmp_path, 2)
    script.kill()
    script.communicate(timeout=DEADLINE_S)
    assert eventually(lambda: not any(map(alive, processes)))
    assert not list(tmp_path.glob("done-*"))


def run_file(path: Path, text: str, *, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    with path.open() if stdin else contextlib.nullcontext() as file:
        command = [sys.executable, "-" if stdin else str(path)]
        return subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("stdin", [False, True])
def test_script_without_a_main_guard(tmp_path: Path, stdin: bool) -> None:
    text = """
from studbook.execution import ProcessExecutor
from studbook.testing.executors import square
print(sorted(ProcessExecutor(2).run(square, [2, 3])))
"""
    done = run_file(tmp_path / "script.py", text, stdin=stdin)
    assert (done.stdout, done.stderr) == ("[(0, 4), (1, 9)]\n", "")


GUARDED = """
from dataclasses import dataclass
from studbook.execution import ProcessExecutor
@dataclass(frozen=True)
class Pair:
    low: int
    high: int
def swap(pair):
    return Pair(pair.high, pair.low)
if __name__ == "__main__":
    print(list(ProcessExecutor(1).run(swap, [Pair(1, 2)])))
"""


def test_script_that_defines_what_its_workers_need(tmp_path: Path) -> None:
    done = run_file(tmp_path / "script.py", GUARDED)
    assert (done.stdout, done.stderr) == ("[(0, Pair(low=2, high=1))]\n", "")


def test_script_that_needs_a_main_guard_is_told(tmp_path: Path) -> None:
    done = run_file(tmp_path / "script.py", GUARDED.replace('__name__ == "__main__"', "True"))
    assert "ConfigError: a worker process can't start workers of its own (put the call under `if __name__" in done.stderr
