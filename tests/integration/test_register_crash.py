"""Writers that are killed, servers that go away: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
from sqlalchemy import func, select

from studbook.errors import RegisterUnavailableError
from studbook.records import Entry
from studbook.registry import Added, Register, text_content
from studbook.registry.reading import ids_by_content
from studbook.registry.schema import edges, entries, prints
from studbook.registry.writing import sha_bytes

FORK = multiprocessing.get_context("fork")
PARENT = "sha256:" + 64 * "a"
BATCH = 150


def text(i: int) -> str:
    return f"output number {i} of a model that wrote {i * i} and {i % 7}"


def content(i: int) -> str:
    return text_content(text(i))


def write_for_ever(place: str, index, start: int, pipe) -> None:
    """Add batch after batch, and say so after each; texts by the fast path, entries with parents, and a search, in turn."""
    with Register.open(place, index=index) as register:
        for i in range(start, 1_000_000, BATCH):
            batch = [text(k) for k in range(i, i + BATCH)]
            if (i // BATCH) % 3 == 2:
                register.add([Entry(text_content(each), "text", "generated", "m", parents=(PARENT,)) for each in batch])
            else:
                register.add_texts(batch, model="m", parents=[PARENT])
            os.write(pipe, f"{i + BATCH}\n".encode())
            if (i // BATCH) % 5 == 0:
                register.find_texts(batch[:3])


def run_and_kill(place: str, index, start: int, after_s: float) -> int:
    """How far a writer came that is killed; the number after the last text whose batch it said was in."""
    reader, writer = os.pipe()
    process = FORK.Process(target=write_for_ever, args=(place, index, start, writer))
    process.start()
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        first = said.readline()
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
        lines = [first, *said.read().splitlines(keepends=True)]
    process.join()
    return max([start, *(int(line) for line in lines if line.endswith(b"\n"))])


def check_whole(register: Register, acknowledged: int) -> None:
    """Everything acknowledged is in, batches are in wholly or not at all, and every entry has all that belongs to it."""
    assert register.verify() == []
    with register._store.read() as connection:
        n = connection.execute(select(func.count()).select_from(entries)).scalar_one()
        steps = connection.execute(select(func.count()).select_from(edges)).scalar_one()
        printed = connection.execute(select(func.count()).select_from(prints)).scalar_one()
        fast = connection.execute(select(func.count(func.distinct(prints.c.entry)))).scalar_one()
        found = ids_by_content(register._store, connection, [sha_bytes(content(i)) for i in range(acknowledged)])
    assert len(found) == acknowledged
    assert n % BATCH == 0
    assert steps == n
    assert printed == fast == sum(1 for batch in range(n // BATCH) if batch % 3 != 2) * BATCH


def kill_again_and_again(place: str, index, kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Register.open(place, create=True, index=index).close()
    done = 0
    for _ in range(kills):
        done = run_and_kill(place, index, done, float(rng.uniform(0.0, 0.06)))
        with Register.open(place, index=index) as register:
            check_whole(register, done)
    with Register.open(place, index=index) as register:
        assert register.add_texts([text(i) for i in range(done)], model="m") == Added(0, done)
    assert done > 0


def test_killed_writers_lose_nothing_on_sqlite(tmp_path):
    kill_again_and_again(str(tmp_path / "register.db"), tmp_path / "index", 4, seed=1)


@pytest.mark.postgres
def test_killed_writers_lose_nothing_on_postgres(postgres_server, tmp_path):
    kill_again_and_again(postgres_server.new_database(), tmp_path / "index", 3, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 7))
def test_killed_writers_lose_nothing_on_sqlite_many_times(tmp_path, seed):
    kill_again_and_again(str(tmp_path / "register.db"), tmp_path / "index", 25, seed)


@pytest.mark.slow
@pytest.mark.postgres
def test_killed_writers_lose_nothing_on_postgres_many_times(postgres_server, tmp_path):
    kill_again_and_again(postgres_server.new_database(), tmp_path / "index", 25, seed=8)


@pytest.mark.postgres
def test_a_server_that_goes_away_is_said_and_loses_nothing(postgres_server, tmp_path):
    place = postgres_server.new_database()
    with Register.open(place, create=True, index=tmp_path / "index") as register:
        register.add_texts([text(0)], model="m")
        postgres_server.stop()
        try:
            for call in (lambda: register.add_texts([text(1)]), lambda: register.find_texts([text(0)]), register.stats):
                with pytest.raises(RegisterUnavailableError, match="can't be reached") as caught:
                    call()
                assert postgres_server.password not in str(caught.value)
            with pytest.raises(RegisterUnavailableError):
                Register.open(place)
        finally:
            postgres_server.start()
        assert register.add_texts([text(0), text(1)], model="m") == Added(1, 1)
        assert register.verify() == []


@pytest.mark.postgres
def test_a_server_that_crashes_under_a_bulk_insert(postgres_server, tmp_path):
    place, acknowledged, refused = postgres_server.new_database(), [0], []

    def write() -> None:
        with Register.open(place, index=tmp_path / "index") as register:
            try:
                for i in range(0, 1_000_000, BATCH):
                    register.add_texts([text(k) for k in range(i, i + BATCH)], model="m")
                    acknowledged[0] = i + BATCH
            except RegisterUnavailableError as error:
                refused.append(error)

    Register.open(place, create=True, index=tmp_path / "index").close()
    writer = threading.Thread(target=write)
    writer.start()
    while acknowledged[0] < 3 * BATCH and writer.is_alive():
        time.sleep(0.01)
    postgres_server.stop("immediate")
    writer.join()
    postgres_server.start()
    assert len(refused) == 1
    with Register.open(place, index=tmp_path / "index") as register:
        assert register.verify() == []
        n = register.stats().entries
        assert n >= acknowledged[0]
        assert n % BATCH == 0
        assert register.add_texts([text(k) for k in range(acknowledged[0] + BATCH)], model="m").new == acknowledged[0] + BATCH - n


def add_overlapping(place: str, index, writer: int) -> None:
    with Register.open(place, create=True, index=index) as register:
        for i in range(0, 600, 60):
            register.add_texts([text(k) for k in range(i + 10 * writer, i + 10 * writer + 60)], model="m")
            register.find_texts([text(i)])


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_processes_that_make_and_fill_one_register_together(kind, request, tmp_path):
    place = str(tmp_path / "register.db") if kind == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    processes = [FORK.Process(target=add_overlapping, args=(place, tmp_path / "index", writer)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with Register.open(place, index=tmp_path / "index") as register:
        assert register.stats().entries == 630
        assert register.verify() == []
        assert all(register.find_texts([text(k) for k in range(630)]))
