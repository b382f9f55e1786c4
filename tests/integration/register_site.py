"""A register with signed pictures, and its service as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from studbook.pictures import png_bytes
from studbook.provenance import Chain, Statement, Trust, new_chain, sign_picture
from studbook.registry import Register

START = "from studbook.cli.main import main; main()"
WRITER, READER = "a-writer-s-secret-token", "a-reader-s-secret-token"


@dataclass
class RegisterSite:
    """What an operator has: a folder with tokens, a chain, and a register."""

    folder: Path
    location: str
    chain: Chain
    trust: Trust
    options: list[str] = field(default_factory=list)


def picture(seed: int, side: int = 128) -> np.ndarray:
    """Blots: they keep their fingerprint when they are encoded again, and no two seeds are alike."""
    rough = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))


def changed(data: bytes, *, side: int = 150, quality: int = 70) -> bytes:
    """The picture of a file, resized and encoded again; whatever else was in the file is gone."""
    with Image.open(io.BytesIO(data)) as opened:
        smaller = opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    made = io.BytesIO()
    smaller.save(made, "JPEG", quality=quality)
    return made.getvalue()


def signed(site: RegisterSite, seed: int) -> bytes:
    """A signed picture; its perceptual hash is in the manifest."""
    return sign_picture(png_bytes(picture(seed)), site.chain, Statement(origin="generated", model="blots-1"))


def build(folder: Path, location: str | None = None) -> RegisterSite:
    """Make a register, tokens, and a chain of certificates."""
    folder.mkdir(exist_ok=True)
    place = location or str(folder / "outputs.db")
    Register.open(place, create=True).close()
    for name, token in (("writers", WRITER), ("readers", READER)):
        (folder / name).write_text(token)
        (folder / name).chmod(0o600)
    chain = new_chain(folder / "chain", "Example Laboratory")
    trust = Trust.load([folder / "chain"])
    options = [
        "--write-token-file",
        str(folder / "writers"),
        "--read-token-file",
        str(folder / "readers"),
        "--trust",
        str(folder / "chain"),
    ]
    return RegisterSite(folder, place, chain, trust, [*options, "--index", str(folder / "index")])


@dataclass(frozen=True)
class Serving:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    def client(self, token: str | None = WRITER, **options: object) -> httpx.Client:
        """A client that sends a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60.0, **options)


@contextlib.contextmanager
def serving(location: str, *options: str) -> Iterator[Serving]:
    """The service; ended in the end."""
    command = [sys.executable, "-c", START, "serve", "registry", location, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log: list[str] = []
    try:
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"register at (http\S+)", line):
                break
        else:
            raise RuntimeError(f"the service didn't start:\n{''.join(log)}")
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        yield Serving(process, found[1], log)
    finally:
        process.kill()
        process.wait()
