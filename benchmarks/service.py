"""A verifier over HTTP beside the same examinations in process, and what becomes of more claims than its queue holds.

The model is a tiny denoiser of 8 × 8 digits, so that most of what is measured is the service: signatures, HTTP, the way to the worker and
back, sealing and revealing. Coordinator and node share this machine.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from studbook.data import open_source
from studbook.learners.diffusion import Diffusion
from studbook.neural.options import Training
from studbook.provenance import PublicKey, SigningKey, open_signed, sign
from studbook.records import Claim, Environment, Evidence, ImageSampling
from studbook.verification.calibrate import Plan, calibrate_pictures
from studbook.verification.calibration import Target, total_units
from studbook.verification.claimant import answer, draw_pictures
from studbook.verification.coordinator import Node, verify_claim
from studbook.verification.folder import pair
from studbook.verification.models import ModelStore, register_model
from studbook.verification.pictures import ImageEngine
from studbook.verification.quorum import Quorum, new_round
from studbook.verification.settings import Setting
from studbook.verification.verifier import Verifier

ROUNDS, CLAIMS, CALLERS, QUEUE = 5, 24, 4, 32
SAMPLING = ImageSampling(steps=10)
START = "from studbook.cli.serve import app; app()"


def run() -> list[dict]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine, verifier, options = prepare(folder)
        with subprocess.Popen([sys.executable, "-c", START, "verifier", *options], stderr=subprocess.PIPE, text=True) as process:
            try:
                key, url = re.search(r"verifier (\S+) at (\S+)", process.stderr.readline()).groups()
                node = Node(url, PublicKey(key))
                return [throughput(engine, verifier, node), flood(engine, node)]
            finally:
                process.terminate()


def prepare(folder: Path) -> tuple[ImageEngine, Verifier, list[str]]:
    records = open_source("digits").load().records
    learner = Diffusion(width=32, depth=1, steps=50, conditional=True, training=Training(epochs=3, batch=64, rate=3e-3))
    learner.fit(records, rng=np.random.default_rng(0)).save(folder / "model")
    model = register_model(folder / "model")
    plan = Plan((Setting("alone", Environment()),), Target(0.3, 0.8))
    calibration = calibrate_pictures(model, total_units(plan.target), SAMPLING, plan)
    operator = SigningKey.generate()
    operator.save(folder / "node.pem")
    (folder / "calibration.json").write_bytes(sign(calibration, operator))
    options = {
        "--model": folder / "model", "--calibration": folder / "calibration.json", "--trust-calibrations": operator.public,
        "--key": folder / "node.pem", "--port": 0, "--queue": QUEUE,
    }  # fmt: skip
    flat = [str(part) for option in options.items() for part in option]
    return ImageEngine(model, Environment()), Verifier(ModelStore([folder / "model"]), [calibration]), flat


def claims(engine: ImageEngine, n: int, first: int) -> list[tuple[bytes, bytes, str]]:
    claimant, rounds = SigningKey.generate(), [new_round() for _ in range(n)]
    made = draw_pictures(engine, [str(i % 10) for i in range(n)], SAMPLING, range(first, first + n))
    return [
        (sign(each.claim, claimant), sign(answer(each.claim, each.states, r), claimant), r) for each, r in zip(made, rounds, strict=True)
    ]


def throughput(engine: ImageEngine, verifier: Verifier, node: Node) -> dict:
    quorum = Quorum(1, (node.key,))

    def over_http(packet: tuple[bytes, bytes, str]) -> int:
        return len(verify_claim(packet[0], packet[1], [node], quorum, packet[2], timeout_s=60.0).ballots)

    def here(packet: tuple[bytes, bytes, str]) -> None:
        claim, evidence = open_signed(packet[0], Claim, "claim"), open_signed(packet[1], Evidence, "evidence")
        verifier.examine(pair(claim, evidence), packet[2], quorum.electorate)

    for packet in claims(engine, 2, 10_000):
        here(packet)
        over_http(packet)
    ours, theirs = [], []
    for number in range(ROUNDS):
        packets = claims(engine, CLAIMS, 100 * number)
        start = time.perf_counter()
        for packet in packets:
            here(packet)
        between = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            ballots = sum(pool.map(over_http, packets))
        ours.append((time.perf_counter() - between) / CLAIMS)
        theirs.append((between - start) / CLAIMS)
        assert ballots == CLAIMS
    ratios = sorted(their / our for their, our in zip(theirs, ours, strict=True))
    detail = (
        f"{1 / statistics.median(ours):.0f} claims/s end to end over HTTP, {1 / statistics.median(theirs):.0f} in process; one worker, "
        f"{CALLERS} coordinators, 8 × 8 pictures in 10 steps; ratios {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )
    return row("a claim to a verifier over HTTP, against in process", statistics.median(ours), statistics.median(theirs), ratios, detail)


def flood(engine: ImageEngine, node: Node) -> dict:
    """Four times as many claims as the queue holds, as fast as they can be sent: none that was accepted is lost."""
    packets, company = claims(engine, 4 * QUEUE, 20_000), Quorum(1, (node.key,)).electorate
    with httpx.Client(base_url=node.url, trust_env=False) as http:

        def send(packet: tuple[bytes, bytes, str]) -> httpx.Response:
            claim, evidence, round_ = packet
            return http.post(
                "/claims", json={"claim": claim.decode(), "evidence": evidence.decode(), "round": round_, "electorate": company}
            )

        start = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(send, packets))
        sent = time.perf_counter() - start
        accepted = [each.json()["job"] for each in answers if each.status_code == 202]
        full = sum(each.status_code == 429 and "retry-after" in each.headers for each in answers)
        assert len(accepted) + full == len(packets)
        waiting = set(accepted)
        states: dict[str, str] = {}
        while waiting:
            for job in sorted(waiting):
                states[job] = http.get(f"/jobs/{job}").json()["state"]
            waiting = {job for job in waiting if states[job] not in {"sealed", "failed"}}
            time.sleep(0.02)
        done = time.perf_counter() - start
    sealed = sum(state == "sealed" for state in states.values())
    assert sealed == len(accepted)
    detail = (
        f"{len(packets)} claims at once at a queue of {QUEUE}: {len(accepted)} accepted, all of them sealed; {full} told 429, Retry-After"
    )
    return row(
        "answering a flood of claims, a request",
        sent / len(packets),
        done / max(1, sealed),
        [done / max(1, sealed) / sent * len(packets)],
        detail,
    )


def row(name: str, ours: float, peer: float, ratios: list[float], detail: str) -> dict:
    return {"name": name, "ours_s": ours, "peer_s": peer, "ratio": statistics.median(ratios), "target": None, "detail": detail}


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']}: {line['ours_s'] * 1e3:.1f} ms, {line['peer_s'] * 1e3:.1f} ms, {line['ratio']:.2f} ×; {line['detail']}")
