"""``make demo-claims``: a provider signs claims, three verifier processes on this machine run them again over HTTP and vote.

An honest provider, on other numerics too, is accepted; each cheat is rejected, and what is wrong is named. Two models are trained for it:
one of pictures of handwritten digits, and a small language model of Python's documentation.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "claims"
STUDBOOK = Path(sys.executable).with_name("studbook")
FIRST_PORT = 8471
IMAGE, TEXT = ("--steps", "10", "--guidance", "1"), ("--max-new", "32", "--temperature", "1")


def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    say("training a diffusion model of digits and a language model of Python's documentation")
    train_models()
    keys = {name: key(name) for name in ("provider", "buyer", "calibrator", "node1", "node2", "node3")}
    say("calibrating both: honest environments and cheats")
    for kind, options in (("image", IMAGE), ("text", TEXT)):
        if not (OUT / f"{kind}.json").exists():
            run(
                "claim",
                "calibrate",
                OUT / kind,
                "--key",
                OUT / "calibrator.key",
                "--out",
                OUT / f"{kind}.json",
                "--false-alarm",
                "0.1",
                *options,
            )
    with nodes(keys["calibrator"]):
        say("three verifiers vote on each claim; two decide\n")
        verifiers = ",".join(f"http://127.0.0.1:{FIRST_PORT + i}#{keys[f'node{i + 1}']}" for i in range(3))
        wrong = [not judge(name, expected, verifiers) for name, expected in make_claims()]
    run("claim", "check", OUT / "receipt.json")
    print(f"\n{len(wrong) - sum(wrong)} of {len(wrong)} verdicts are as they should be; {time.monotonic() - started:.0f} s.")
    print(f"The last receipt: studbook claim show {OUT / 'receipt.json'}")
    return 1 if any(wrong) else 0


def train_models() -> None:
    from studbook.arrays import text
    from studbook.data import open_source
    from studbook.learners import CausalLM, Diffusion
    from studbook.neural.options import Training
    from studbook.neural.tokens import train_bpe

    if not (OUT / "image").exists():
        digits = open_source("digits").load().records
        learner = Diffusion(conditional=True, training=Training(epochs=30, batch=64, rate=2e-3))
        learner.fit(digits, rng=np.random.default_rng(0)).save(OUT / "image")
    if not (OUT / "text").exists():
        source = open_source("python-docs").load()
        words = " ".join(source.space.vocabulary[i] for i in source.records.values[:800].ravel())
        encoder = train_bpe([words], 800)
        ids = encoder.encode([words])
        blocks = text(ids[: len(ids) // 64 * 64].reshape(-1, 64), encoder.vocabulary)
        training = Training(epochs=3, batch=32, rate=3e-3)
        CausalLM("llama-tiny", layers=2, width=64, heads=4, context=128, training=training).fit(blocks, rng=np.random.default_rng(0)).save(
            OUT / "text"
        )
        encoder.tokenizer.save(str(OUT / "text" / "tokenizer.json"))


def make_claims() -> Iterator[tuple[str, str]]:
    """Claims' folders, and what should become of them."""
    from studbook.provenance import SigningKey
    from studbook.records import Environment, ImageSampling, TextSampling
    from studbook.verification.calibrate import make_pictures, make_texts
    from studbook.verification.folder import write_claim_folder
    from studbook.verification.language import TextEngine
    from studbook.verification.models import register_model
    from studbook.verification.settings import Setting, cheating_settings
    from studbook.verification.workflow import documentation_prompts

    secret = SigningKey.load(OUT / "provider.key")
    fp32, bf16 = Environment(), Environment(dtype="bf16", batch=8)
    honest = (Setting("honest: fp32", fp32), Setting("honest: bf16, 8 side by side", bf16))
    pictures, texts = register_model(OUT / "image"), register_model(OUT / "text")
    prompts = documentation_prompts(TextEngine(texts, fp32), 120, 24)[-8:]
    cheats = {
        "image": ("int4 weights", "another class", "another seed"),
        "text": ("int4 weights", "another prompt", "another seed", "half the layers"),
    }
    for kind in ("image", "text"):
        chosen = [each for each in cheating_settings(kind) if each.name in cheats[kind]]  # type: ignore[arg-type]
        for setting in (*honest, *chosen):
            if kind == "image":
                made = next(make_pictures(pictures, 8, ImageSampling(steps=10, guidance=1.0), setting, 1))
            else:
                made = next(make_texts(texts, prompts, TextSampling(max_new=32, temperature=1.0, stop=False), setting, 1))
            name = f"{kind}, {setting.name}"
            write_claim_folder(OUT / slug(name), made, secret)
            yield name, "ACCEPT" if setting.honest else "REJECT"


def judge(name: str, expected: str, verifiers: str) -> bool:
    """Have the nodes vote on a claim, with a challenge that they draw; say what they found."""
    folder = OUT / slug(name)
    nonce = run("claim", "challenge").strip()
    evidence = run("claim", "answer", folder, "--nonce", nonce, "--key", OUT / "provider.key").strip()
    command = ("claim", "verify", folder, "--nonce", nonce, "--evidence", evidence, "--verifiers", verifiers, "--quorum", "2",
               "--format", "json", "--key", OUT / "buyer.key", "--out", OUT / "receipt.json")  # fmt: skip
    done = subprocess.run([STUDBOOK, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 3, 4}:
        raise SystemExit(done.stderr)
    verdict = json.loads(done.stdout)
    broken = [f"{tally['finding']} ({', '.join(tally['broken'])})" for tally in verdict["findings"] if tally["broken"]]
    found = verdict["outcome"].upper()
    print(f"{'  ' if found == expected else '! '}{name:42} {found:8} {verdict['accepts']}:{verdict['rejects']}  {'; '.join(broken)}")
    return found == expected


@contextmanager
def nodes(calibrator: str) -> Iterator[None]:
    """Three verifier processes on loopback."""
    import httpx

    started = []
    try:
        for i in range(3):
            command = [
                STUDBOOK,
                "serve",
                "verifier",
                "--key",
                OUT / f"node{i + 1}.key",
                "--port",
                str(FIRST_PORT + i),
                "--trust-calibrations",
                calibrator,
            ]
            for kind in ("image", "text"):
                command += ["--model", OUT / kind, "--calibration", OUT / f"{kind}.json"]
            log = (OUT / f"node{i + 1}.log").open("w")
            started.append(subprocess.Popen(list(map(str, command)), stderr=log, stdout=log))
        for i in range(3):
            for _ in range(300):
                try:
                    httpx.get(f"http://127.0.0.1:{FIRST_PORT + i}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def key(name: str) -> str:
    file = OUT / f"{name}.key"
    return run("key", "show" if file.exists() else "new", file).strip()


def run(*arguments: object) -> str:
    done = subprocess.run([STUDBOOK, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 3, 4}:
        raise SystemExit(done.stderr)
    return done.stdout


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
