"""Corpora that are damaged, or made to hurt: what can't be read is skipped with its reason, and nothing else is lost."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studbook.errors import StorageError
from studbook.pictures import png_bytes
from studbook.screening import Limits, Screen, screen_corpus


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class TestTables:
    def test_no_parquet_at_all_and_one_cut_off(self, run, corpus, screen, tmp_path):
        (corpus / "no.parquet").write_bytes(b"PAR1 is all that is right")
        pq.write_table(pa.table({"text": ["x"] * 100}), corpus / "cut.parquet")
        (corpus / "cut.parquet").write_bytes((corpus / "cut.parquet").read_bytes()[:-20])
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 1 and "isn't a Parquet file" in reasons["no.parquet"] and "isn't a Parquet" in reasons["cut.parquet"]

    def test_a_damaged_row_group_costs_only_its_rows(self, run, corpus, screen, tmp_path):
        texts = [f"{i} " + os.urandom(40).hex() for i in range(3000)]
        path = corpus / "hurt.parquet"
        pq.write_table(pa.table({"text": texts}), path, row_group_size=1000, compression="zstd", use_dictionary=False)
        column = pq.ParquetFile(path).metadata.row_group(1).column(0)
        data = bytearray(path.read_bytes())
        start = column.data_page_offset
        data[start + 40 : start + column.total_compressed_size - 40] = os.urandom(column.total_compressed_size - 80)
        path.write_bytes(data)
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 2001 and any("rows 1000 to 1999 are damaged" in each for each in reasons.values())

    def test_a_value_that_a_dictionary_repeats_a_hundred_thousand_times(self, corpus, screen, tmp_path):
        long = "x" * (1 << 20)  # 100 GB of text in a file of a few kilobytes
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([long]))
        pq.write_table(pa.table({"text": column}), corpus / "bomb.parquet", compression="zstd")
        assert (corpus / "bomb.parquet").stat().st_size < 1 << 20
        before = peak_mib()
        with pytest.raises(StopAsking):
            screen_corpus([corpus / "bomb.parquet"], tmp_path / "out", Screen((StopsAfter(200),)))
        assert peak_mib() - before < 1500

    def test_missing_texts_and_other_types(self, run, corpus, screen, tmp_path):
        pq.write_table(pa.table({"text": ["fine", None, ""]}), corpus / "a.parquet")
        pq.write_table(pa.table({"text": [1, 2]}), corpus / "b.parquet")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 2
        assert reasons["a.parquet#1"] == "its text is missing" and reasons["a.parquet#2"] == "its text is empty"
        assert reasons["b.parquet#0"] == "its text is int, expected a text"

    def test_paths_inside_a_table_are_not_opened(self, run, corpus, screen, tmp_path):
        secret = tmp_path / "secret.png"
        secret.write_bytes(b"secret")
        pq.write_table(pa.table({"text": [{"bytes": None, "path": str(secret)}]}), corpus / "a.parquet")
        assert "paths inside a table aren't opened" in run(corpus, screen, tmp_path)[1]["a.parquet#0"]


class StopAsking(Exception):
    pass


class StopsAfter:
    name, evidence, kinds = "stops", "detector", frozenset({"text"})

    def __init__(self, n: int) -> None:
        self._left = n

    def describe(self):
        return {}

    def examine(self, records):
        self._left -= len(records)
        if self._left < 0:
            raise StopAsking
        return [None for _ in records]


class TestLines:
    def test_what_is_not_a_record(self, run, corpus, screen, tmp_path):
        lines = [
            b'{"text": "fine"}', b"not json", b"[1]", b'{"body": "x"}', b'{"text": 3}', b"\xff\xfe", b"[" * 100_000,
            b'{"text": "\\ud800"}', b'{"text": "fine too", "n": ' + b"9" * 5000 + b"}",
        ]  # fmt: skip
        (corpus / "a.jsonl").write_bytes(b"\n".join(lines))
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 2 and summary["skipped"] == 8
        assert sum("isn't JSON" in each for each in reasons.values()) == 3
        assert any("has no key 'text', but body" in each for each in reasons.values())
        assert any("half a surrogate pair" in each for each in reasons.values())

    def test_a_record_of_a_hundred_megabytes(self, run, corpus, screen, tmp_path):
        with (corpus / "a.jsonl").open("wb") as file:
            file.write(b'{"text": "before"}\n{"text": "')
            for _ in range(100):
                file.write(b"x" * (1 << 20))
            file.write(b'"}\n{"text": "after"}\n')
        before = peak_mib()
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 3 and any("a line of 104,857," in each for each in reasons.values())
        assert peak_mib() - before < 200

    def test_a_bomb(self, run, corpus, screen, tmp_path):
        packer = zlib.compressobj(9, wbits=31)
        with (corpus / "bomb.jsonl.gz").open("wb") as file:
            block = b"\0" * (1 << 20)
            for _ in range(600):
                file.write(packer.compress(block))
            file.write(packer.flush())
        before = peak_mib()
        _, reasons = run(corpus, screen, tmp_path)
        assert any("unpacks to more than 200 times its size" in each for each in reasons.values())
        assert peak_mib() - before < 200

    def test_packed_files_that_are_cut_off_or_none(self, run, corpus, screen, tmp_path):
        data = gzip.compress(b"".join(b'{"text": "line %d"}\n' % i for i in range(5000)))
        (corpus / "cut.jsonl.gz").write_bytes(data[: len(data) // 2])
        for suffix in ("gz", "bz2", "xz", "zst"):
            (corpus / f"no.jsonl.{suffix}").write_bytes(b"nothing packed")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] > 100 and sum("damaged or cut off" in each for each in reasons.values()) == 5


class TestArchives:
    def test_names_that_lead_out_links_and_devices(self, run, corpus, screen, screening_site, tmp_path):
        member = screening_site.member
        with tarfile.open(corpus / "a.tar", "w") as archive:
            member(archive, "../../etc/cron.d/x.txt", b"evil")
            member(archive, "/etc/passwd.txt", b"evil")
            member(archive, "link.txt", kind=tarfile.SYMTYPE)
            member(archive, "hard.txt", kind=tarfile.LNKTYPE)
            member(archive, "device.txt", kind=tarfile.CHRTYPE)
            member(archive, "pipe.txt", kind=tarfile.FIFOTYPE)
            member(archive, "fine.txt", b"a fine text")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 2 and summary["skipped"] == 6
        assert sum("leads out of the archive" in each for each in reasons.values()) == 2
        assert not [path for path in tmp_path.rglob("*") if path.name in {"x.txt", "passwd.txt"}]

    def test_a_header_of_a_gigabyte(self, run, corpus, screen, tmp_path):
        info = tarfile.TarInfo("././@PaxHeader")
        info.type, info.size = tarfile.XHDTYPE, 1 << 30
        (corpus / "a.tar").write_bytes(info.tobuf() + b"\0" * (1 << 16))
        before = peak_mib()
        assert "header has 1,073,741,824 bytes" in run(corpus, screen, tmp_path)[1]["a.tar"]
        assert peak_mib() - before < 200

    def test_cut_off_and_no_archive(self, run, corpus, screen, screening_site, tmp_path):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as archive:
            for i in range(5):
                screening_site.member(archive, f"{i}.txt", b"text " * 500)
        (corpus / "cut.tar").write_bytes(sink.getvalue()[: 3 * 3072 + 700])
        (corpus / "no.tar").write_bytes(b"no archive " * 100)
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 1 + 3 and "cut off" in reasons["cut.tar"] and "damaged" in reasons["no.tar"]

    def test_a_thousand_members_of_one_record(self, run, corpus, screen, screening_site, tmp_path):
        with tarfile.open(corpus / "a.tar", "w") as archive:
            for i in range(1000):
                screening_site.member(archive, f"one.{i}", b"x")
        summary, _ = run(corpus, screen, tmp_path)
        assert summary["skipped"] == 1000 - 64 + 1


class TestPictures:
    def test_a_picture_of_a_billion_pixels(self, run, corpus, screen, tmp_path):
        header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
        parts = (b"IHDR" + header, b"IDAT" + zlib.compress(b"\0" * 1000), b"IEND")
        chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
        (corpus / "huge.png").write_bytes(data)
        (corpus / "no.jpg").write_bytes(b"\xff\xd8 nothing")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 1 and "more pixels than" in reasons["huge.png"] and "can't be read as a picture" in reasons["no.jpg"]

    def test_memory_does_not_grow_with_their_number(self, run, corpus, screen, tmp_path):
        import numpy as np

        data = png_bytes(np.zeros((2048, 2048, 3), np.uint8))
        for i in range(100):
            (corpus / f"{i}.png").write_bytes(data)
        before = peak_mib()
        assert run(corpus, screen, tmp_path)[0]["read"] == 101
        assert peak_mib() - before < 400  # unpacked they are 1,200 MiB


class TestFolders:
    def test_links_names_and_files_that_are_no_text(self, run, corpus, screen, tmp_path):
        (tmp_path / "secret.txt").write_text("secret")
        (corpus / "link.txt").symlink_to(tmp_path / "secret.txt")
        (corpus / "loop").symlink_to(corpus)
        (corpus / "latin.txt").write_bytes(b"caf\xe9")
        Path(os.fsdecode(os.fsencode(corpus) + b"/\xff\xfe.txt")).write_text("a strange name")
        os.mkfifo(corpus / "pipe.txt")
        (corpus / "long.txt").write_bytes(b"x" * 2000)
        summary, reasons = run(corpus, screen, tmp_path, limits=Limits(text_bytes=1000))
        assert summary["read"] == 2
        assert (
            "isn't followed" in reasons["loop"] and "not a plain file" in reasons["link.txt"] and "not a plain file" in reasons["pipe.txt"]
        )
        assert "byte 3 can't be decoded" in reasons["latin.txt"] and "longer than" in reasons["long.txt"]

    def test_memory_does_not_depend_on_the_size(self, run, corpus, screen, tmp_path):
        line = json.dumps({"text": "word " * 400}) + "\n"
        with (corpus / "big.jsonl").open("w") as file:
            for _ in range(200):
                file.write(line * 500)  # 200 MB
        before = peak_mib()
        assert run(corpus, screen, tmp_path, limits=Limits(records=2000))[0]["read"] == 100_001
        assert peak_mib() - before < 100


@pytest.mark.mount
def test_a_full_disk_loses_nothing(corpus, screen, tmp_path):
    (corpus / "a.jsonl").write_text("".join(json.dumps({"text": os.urandom(500).hex()}) + "\n" for _ in range(4000)))
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200k", "studbook-test", str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"can't mount a temporary file system: {done.stderr.strip()}")
    try:
        with pytest.raises(StorageError, match="the disk is full"):
            screen_corpus([corpus], disk / "out", screen, limits=Limits(records=500))
        assert not list((disk / "out").rglob(".writing-*"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert screen_corpus([corpus], disk / "out", screen, limits=Limits(records=500))["read"] == 4001
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[3])
from screening_site import Knows
from studbook.screening import Limits, Screen, screen_corpus

class Slow(Knows):
    def examine(self, records):
        time.sleep(0.01)
        return super().examine(records)

screen_corpus([sys.argv[1]], sys.argv[2], Screen((Slow("robots", "detector", "robot"),)), limits=Limits(records=20))
"""


def test_killed_at_any_moment_it_goes_on_and_gives_the_same(screening_site, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text("".join(json.dumps({"text": f"{i} robot" if i % 3 else f"{i}"}) + "\n" for i in range(2000)))
    site = str(Path(screening_site.__file__).parent)
    for wait_s in (0.05, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(corpus), str(tmp_path / "out"), site])
        start = time.monotonic()
        while not (tmp_path / "out" / "pieces").exists() and time.monotonic() - start < 60:
            time.sleep(0.02)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out" / "summary.json").exists()
    screen = Screen((screening_site.Knows("robots", "detector", "robot"),))
    assert screen_corpus([corpus], tmp_path / "out", screen, limits=Limits(records=20))["read"] == 2000
    screen_corpus([corpus], tmp_path / "whole", screen, limits=Limits(records=20))
    for path in sorted((tmp_path / "whole").rglob("part-*")):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
