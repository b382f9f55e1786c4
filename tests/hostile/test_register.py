"""Files that are no register, damaged ones, ones from the future, full disks, and hostile contents: a clear error each."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import ConfigError, DataError, RecordError, RegisterError, RegisterUnavailableError, StorageError, StudbookError
from studbook.pictures import png_bytes
from studbook.records import Entry
from studbook.registry import Added, Register, text_content

SHA = "sha256:" + 64 * "a"


def texts(n: int) -> list[str]:
    return [f"text number {i} is one of {n} and has {i * i} more words" for i in range(n)]


@pytest.fixture
def filled(tmp_path) -> Path:
    path = tmp_path / "register.db"
    with Register.open(path, create=True) as register:
        register.add_texts(texts(3000), model="m")
    return path


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("a letter"), "isn't an SQLite database"),
        (lambda path: path.write_bytes(b""), "is an empty file"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(4000)), "register"),
        (foreign, "no register: it has the tables songs"),
        (lambda path: None, "there is no register"),
        (lambda path: path.symlink_to("/dev/null"), "register"),
    ],
)
def test_what_is_no_register_is_refused(tmp_path, make, words):
    path = tmp_path / "it"
    make(path)
    with pytest.raises(RegisterError, match=words):
        Register.open(path)


def test_a_folder_or_another_file_is_never_made_into_a_register(tmp_path):
    for name, make in (("folder", Path.mkdir), ("letter", lambda path: path.write_text("a letter")), ("songs", foreign)):
        make(tmp_path / name)
        with pytest.raises(RegisterError):
            Register.open(tmp_path / name, create=True)
    assert (tmp_path / "letter").read_text() == "a letter"
    with pytest.raises(StorageError):
        Register.open(tmp_path / "letter" / "register.db", create=True)


@pytest.mark.parametrize(
    "location",
    ["", "a\0b", 3, None, "mysql://host/database", "postgresql://host:port:port/x", "http://x", "postgresql://me:se@cret@host/x"],
)
def test_what_is_no_location_is_refused(location):
    with pytest.raises(ConfigError):
        Register.open(location, create=True)


@pytest.mark.parametrize("keep", [100, 5000, 40_000, 200_000])
def test_a_register_that_was_cut_off_is_refused_or_says_so(filled, keep):
    data = filled.read_bytes()
    assert len(data) > 400_000
    for name in ("register.db-wal", "register.db-shm"):
        (filled.parent / name).unlink(missing_ok=True)
    filled.write_bytes(data[:keep])
    with pytest.raises(RegisterError, match=r"damaged|register"), Register.open(filled) as register:
        problems = register.verify()
        assert problems
        register.find_texts(texts(3000))
        register.add_texts(["more"])
        raise RegisterError(f"register: {problems[0].text}")


def test_bytes_that_were_overwritten_are_found(filled):
    rng = np.random.default_rng(0)
    caught = 0
    for _ in range(12):
        data = bytearray(filled.read_bytes())
        place = int(rng.integers(4096, len(data) - 4096))
        data[place : place + 2000] = rng.bytes(2000)
        copy = filled.with_name("copy.db")
        copy.write_bytes(bytes(data))
        try:
            with Register.open(copy) as register:
                caught += bool(register.verify())
                register.find_texts(texts(10))
        except StudbookError:
            caught += 1
        shutil.rmtree(filled.with_name("copy.db.index"), ignore_errors=True)
    # Free space in a page may be overwritten without a loss, hence not all twelve.
    assert caught >= 9


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to thirty bytes are others, a bit of the first pages, or a stretch of up to a hundred bytes."""
    changed, kind = bytearray(data), rng.integers(3)
    if kind == 0:
        for place in rng.integers(len(data), size=int(rng.choice([1, 4, 30]))):
            changed[place] = rng.integers(256)
    elif kind == 1:
        changed[rng.integers(100, 8192)] ^= 1 << int(rng.integers(8))
    else:
        place = int(rng.integers(len(data) - 100))
        changed[place : place + 100] = rng.bytes(100)
    return bytes(changed)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_damage_never_gives_another_error_than_ours(tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "small.db"
    with Register.open(path, create=True) as register:
        register.add_texts(texts(60), model="m", source="s")
        register.add([Entry(SHA, "bytes", "human", manifest=register.put_manifest(b"manifest"))])
        register.link("next", SHA, "trained-on")
    data = path.read_bytes()
    calls = (
        lambda register: register.stats(),
        lambda register: register.find_texts(texts(3)),
        lambda register: register.get(SHA),
        lambda register: register.lineage("next"),
        lambda register: register.export(tmp_path / "out.jsonl"),
        lambda register: register.add_texts(["another text than those"]),
    )
    for _ in range(400 if seed else 60):
        for name in ("copy.db-wal", "copy.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "copy.db.index", ignore_errors=True)
        (tmp_path / "copy.db").write_bytes(damaged(data, rng))
        with suppress(StudbookError), Register.open(tmp_path / "copy.db") as register:
            register.verify()
            for call in calls:
                with suppress(StudbookError):
                    call(register)


def test_verify_names_damage_that_keeps_it_from_reading(filled):
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE schemes SET parameters = 'no JSON'")
        connection.execute("UPDATE entries SET origin = 77 WHERE id = 5")
    connection.close()
    with Register.open(filled) as register:
        assert {"nothing says where it comes from"} < {problem.text for problem in register.verify()}
        assert any("lost the parameters of the fingerprint" in problem.text for problem in register.verify())
        with pytest.raises(RegisterError, match=r"damaged.*parameters"):
            register.find_texts(texts(3))


def test_a_register_of_a_newer_studbook_is_refused(filled):
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    with pytest.raises(RegisterError, match=r"newer studbook: its tables have version 0999.*upgrade"):
        Register.open(filled, create=True)


@contextmanager
def mounted(folder: Path, size: str):
    """A small temporary file system; skips where mounting isn't allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "studbook-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount a temporary file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.mount
@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    with mounted(tmp_path / "small", "3m"):
        known = 0
        with Register.open(tmp_path / "small" / "register.db", create=True, index=tmp_path / "index") as register:
            with pytest.raises(StorageError, match="can't be") as caught:
                for i in range(1000):
                    register.add_texts([f"{each} in batch {i}" for each in texts(500)], model="m")
                    known += 500
            assert "free some space" in caught.value.hint
            assert 0 < known == register.stats().entries
            assert register.verify() == []
        assert register.get(text_content(f"{texts(500)[0]} in batch 0"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_a_register_that_is_not_ours_to_write():
    folder = Path(tempfile.mkdtemp(prefix="studbook-"))
    try:
        folder.chmod(0o755)
        with Register.open(folder / "register.db", create=True) as register:
            register.add_texts(["one of a few texts"])
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                with Register.open(folder / "register.db") as other:
                    other.add_texts(["another text"])
            except (RegisterError, StorageError) as error:
                os._exit(0 if "register" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        shutil.rmtree(folder)


def test_pictures_that_are_bombs_or_none(tmp_path):
    bomb = bytearray(png_bytes(np.zeros((4, 4), np.uint8)))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header
    with Register.open(tmp_path / "register.db", create=True) as register:
        for wrong in (
            b"",
            b"GIF89a",
            bytes(bomb),
            png_bytes(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))[:600],
            b"\0" * 1000,
        ):
            for call in (register.add_images, register.find_images):
                with pytest.raises(DataError, match="picture 1"):
                    call([png_bytes(np.eye(16, dtype=np.uint8) * 255), wrong])
        assert register.stats().entries == 0


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 5000 + b"]" * 5000,
        b'{"schema":"studbook.entry/1"}',
        b'{"schema":"studbook.entry/2"}',
        b'{"schema":"studbook.strange/1"}',
        b'{"schema": "studbook.edge/1"}',
        b'{"child":"a","parent":"b","relation":"uncle-of","schema":"studbook.edge/1"}',
        b'{"data":"!!","schema":"studbook.manifest/1"}',
        b'{"calibration":null,"schema":"studbook.limit/1","scheme":"phash","value":-1}',
        b'{"payload":{"schema":"studbook.ballot/1"},"schema":"studbook.signed/1"}',
        b'{"schema":["studbook.edge/1"]}',
        b'{"schema":{}}',
        b'{"calibration":null,"schema":"studbook.limit/1","scheme":"minhash","value":4096}',
        b'{"calibration":null,"schema":"studbook.limit/1","scheme":"nonsense","value":1}',
        b'{"calibration":null,"schema":"studbook.limit/1","scheme":"phash","value":true}',
        b'{"calibration":null,"schema":"studbook.limit/1","scheme":["phash"],"value":1}',
    ],
)
def test_hostile_imports_are_refused(tmp_path, line):
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'{"schema":"studbook.register/1"}\n' + line + b"\n")
    with Register.open(tmp_path / "register.db", create=True) as register:
        with pytest.raises((RecordError, RegisterError)):
            register.import_(file)
        assert register.stats().entries == 0
        assert register.limit("minhash").value < 1


def test_an_import_leaves_the_limits_that_are_known(tmp_path):
    with Register.open(tmp_path / "other.db", create=True) as other:
        other.set_limit("phash", 60.0)
        other.set_limit("pdq", 20.0)
        other.export(tmp_path / "out.jsonl")
    with Register.open(tmp_path / "register.db", create=True) as register:
        register.set_limit("phash", 3.0)
        register.import_(tmp_path / "out.jsonl")
        assert [register.limit(scheme).value for scheme in ("phash", "pdq")] == [3.0, 20.0]


@pytest.mark.parametrize("scheme", ["\ud800", "nonsense", "", None, ["phash"]])
def test_a_limit_of_no_fingerprint(tmp_path, scheme):
    with Register.open(tmp_path / "register.db", create=True) as register:
        for call in (lambda: register.limit(scheme), lambda: register.set_limit(scheme, 3.0)):
            with pytest.raises(ConfigError, match="there is no fingerprint"):
                call()
        for limit in ("3", None, True, float("nan"), -1):
            with pytest.raises(ConfigError, match="expected a number"):
                register.set_limit("phash", limit)


def test_an_index_that_is_deleted_again_and_again_is_made_again(filled):
    index, stop, deleted = filled.with_name("register.db.index"), threading.Event(), []

    def delete() -> None:
        while not stop.wait(0.25):
            shutil.rmtree(index, ignore_errors=True)
            deleted.append(index)

    with Register.open(filled) as register:
        thread = threading.Thread(target=delete)
        thread.start()
        try:
            while len(deleted) < 4:
                assert all(register.find_texts([f"{each} so" for each in texts(20)]))
        finally:
            stop.set()
            thread.join()
        assert register.verify() == []


def test_what_tampering_leaves_is_found_by_verify(filled):
    with Register.open(filled) as register:
        register.add([Entry(SHA, "bytes", "human", parents=("sha256:" + 64 * "b",))])
        register.put_manifest(b"manifest")
        register.find_texts(texts(5))
        assert register.verify() == []
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE prints SET bits = zeroblob(256) WHERE row = 0")
        connection.execute("UPDATE prints SET entry = 999999 WHERE row = 7")
        connection.execute("UPDATE prints SET bits = x'00' WHERE row = 9")
        connection.execute("DELETE FROM prints WHERE row = 12")
        connection.execute("DELETE FROM entries WHERE id = 100")
        connection.execute("UPDATE edges SET child = 'someone else'")
        connection.execute("UPDATE manifests SET data = x'00'")
        connection.execute("INSERT INTO claims (id, signer, data) VALUES (zeroblob(32), 'nobody', x'7b7d')")
    connection.close()
    with Register.open(filled) as register:
        found = {problem.part for problem in register.verify()}
        assert {"entries", "fingerprints", "lineage", "manifests", "claims", "index"} <= found


def test_an_index_of_another_register_is_not_believed(tmp_path):
    for name in ("one", "two"):
        with Register.open(tmp_path / f"{name}.db", create=True) as register:
            register.add_texts([f"{name}: {each}" for each in texts(50)])
            register.find_texts(texts(1))
    shutil.rmtree(tmp_path / "two.db.index")
    (tmp_path / "one.db.index").rename(tmp_path / "two.db.index")
    with Register.open(tmp_path / "two.db") as register:
        assert register.find_texts([f"two: {texts(50)[3]}"])[0][0].entry.content == text_content(f"two: {texts(50)[3]}")
        assert register.verify() == []


def test_a_register_from_a_backup_has_its_index_made_again(tmp_path):
    path = tmp_path / "register.db"
    with Register.open(path, create=True) as register:
        register.add_texts(texts(20))
    shutil.copy(path, tmp_path / "backup.db")
    with Register.open(path) as register:
        register.add_texts([f"later {each}" for each in texts(30)])
        register.find_texts(texts(1))
    for name in ("register.db", "register.db-wal", "register.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", path)
    with Register.open(path) as register:
        assert register.add_texts([f"otherwise {each}" for each in texts(40)]) == Added(40, 0)
        assert all(register.find_texts([f"otherwise {each} so" for each in texts(40)]))
        assert register.verify() == []


@pytest.mark.postgres
def test_servers_that_refuse_never_show_the_password(postgres_server):
    good = postgres_server.new_database()
    secret = "a-secret-of-mine"
    for wrong, kind in (
        (good.replace(postgres_server.password, secret), RegisterError),
        (good.rsplit("/", 1)[0].replace(postgres_server.password, secret) + "/absent", RegisterError),
        (postgres_server.url("absent"), RegisterError),
        (f"postgresql://studbook:{secret}@127.0.0.1:1/x", RegisterUnavailableError),
        (f"postgresql://studbook@127.0.0.1:1/x?password={secret}", RegisterUnavailableError),
    ):
        with pytest.raises(kind) as caught:
            Register.open(wrong)
        chain, error = [], caught.value
        while error is not None:
            chain.append(repr(error) + str(error))
            error = error.__cause__
        assert secret not in "".join(chain)
        assert postgres_server.password not in "".join(chain)
    with pytest.raises(RegisterError, match="is empty, and no register"):
        Register.open(good)
    with Register.open(good, create=True) as register:
        assert postgres_server.password not in register.location + repr(register.stats())


@pytest.mark.postgres
def test_the_password_may_come_from_the_environment_or_a_file(postgres_server, monkeypatch, tmp_path):
    name = postgres_server.new_database().rsplit("/", 1)[1]
    bare = postgres_server.url(name, password=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    with Register.open(bare, create=True) as register:
        register.add_texts(["a text of some words"])
        register.find_texts(["a text of some words"])
        assert register.index.is_relative_to(tmp_path)
    monkeypatch.delenv("PGPASSWORD")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{postgres_server.port}:*:studbook:{postgres_server.password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    with Register.open(bare) as register:
        assert register.stats().entries == 1
