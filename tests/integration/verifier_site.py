"""A tiny diffusion model with its calibration, claims about it, and verifiers' nodes as processes of their own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from studbook.data import open_source
from studbook.learners.diffusion import Diffusion
from studbook.neural.options import Training
from studbook.provenance import PublicKey, SigningKey, sign
from studbook.records import Calibration, Environment, ImageSampling
from studbook.verification.calibrate import Plan, calibrate_pictures
from studbook.verification.calibration import Target, total_units
from studbook.verification.claimant import Made, answer, claim_picture, draw_pictures
from studbook.verification.coordinator import Node
from studbook.verification.models import register_model
from studbook.verification.pictures import ImageEngine
from studbook.verification.settings import Setting

SAMPLING = ImageSampling(steps=10)
START = "from studbook.cli.serve import app; app(prog_name='studbook serve')"


@dataclass(frozen=True)
class Site:
    """What an operator has, and a claimant."""

    folder: Path
    calibration: Calibration
    operator: SigningKey
    claimant: SigningKey
    engine: ImageEngine

    def claim(self, request: str, seed: int, round_: str) -> tuple[bytes, bytes]:
        """An honest claim and its evidence, signed."""
        return self.signed(draw_pictures(self.engine, [request], SAMPLING, [seed])[0], round_)

    def cheat(self, request: str, seed: int, round_: str, *, drawn: str, drawn_seed: int) -> tuple[bytes, bytes]:
        """A claim about a picture of another class or seed."""
        other = draw_pictures(self.engine, [drawn], SAMPLING, [drawn_seed])[0]
        recipe = replace(other.claim.recipe, request=request, seed=seed)
        return self.signed(claim_picture(recipe, other.pixels, other.states), round_)

    def signed(self, made: Made, round_: str) -> tuple[bytes, bytes]:
        return sign(made.claim, self.claimant), sign(answer(made.claim, made.states, round_), self.claimant)


def build(folder: Path) -> Site:
    """Train, calibrate, and write what a node needs."""
    records = open_source("digits").load().records
    how = Training(epochs=3, batch=64, rate=3e-3)
    learner = Diffusion(width=32, depth=1, steps=50, sampling_steps=10, conditional=True, training=how)
    learner.fit(records, rng=np.random.default_rng(0)).save(folder / "model")
    model = register_model(folder / "model")
    settings = (Setting("alone", Environment()), Setting("another seed", Environment(), trick="seed"))
    plan = Plan(settings, Target(0.3, 0.8))
    calibration = calibrate_pictures(model, total_units(plan.target), SAMPLING, plan)
    operator = SigningKey.generate()
    (folder / "calibration.json").write_bytes(sign(calibration, operator))
    return Site(folder, calibration, operator, SigningKey.generate(), ImageEngine(model, Environment()))


@dataclass(frozen=True)
class Running:
    """A node in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    key: PublicKey
    log: list[str]

    @property
    def node(self) -> Node:
        return Node(self.url, self.key)

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers."""
        found = []
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (thread / "children").read_text().split()]
        return found


@contextlib.contextmanager
def running(site: Site, name: str, *options: str) -> Iterator[Running]:
    """A node; ended in the end."""
    key = site.folder / f"{name}.pem"
    if not key.exists():
        SigningKey.generate().save(key)
    command = [
        sys.executable, "-c", START, "verifier",
        "--model", str(site.folder / "model"), "--calibration", str(site.folder / "calibration.json"),
        "--trust-calibrations", str(site.operator.public), "--key", str(key), "--port", "0", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    log: list[str] = []
    try:
        for line in process.stderr:
            log.append(line)
            found = re.search(r"verifier (ed25519:\S+) at (\S+)", line)
            if found:
                break
        else:
            raise RuntimeError(f"the node didn't start:\n{''.join(log)}")
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        yield Running(process, found[2], PublicKey(found[1]), log)
    finally:
        process.kill()
        process.wait()
