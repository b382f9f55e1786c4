"""``make demo-corpus``: a folder of documents and pictures by people and by three models is screened, measured, mixed and reviewed.

The people's words are those of Python's documentation. One model's outputs are in a register, some of them edited since; one model
watermarks what it writes; one does neither, and only a detector can suspect it. Pictures carry signed credentials, or had them stripped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "corpus"
STUDBOOK = Path(sys.executable).with_name("studbook")
WORDS = 80
KEY = 15_485_863


def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    say("three models of Python's documentation write; people's documents are held out")
    texts = write_texts()
    say("a register of what the first model wrote, and of an archive of people's documents; keys and certificates")
    for command in (
        ("key", "new", OUT / "screener.key"),
        ("registry", "new", OUT / "outputs.db"),
        ("registry", "add", OUT / "outputs.db", OUT / "registered.jsonl", "--model", "writer-1", "--source", "the provider's log"),
        ("registry", "add", OUT / "outputs.db", OUT / "archive.jsonl", "--origin", "human", "--source", "an archive of before 2020"),
    ):
        run(*command)
    pictures()
    say("the watermark's and the detector's rates, on texts that are in none of this")
    for kind, rate in (("mark", 0.02), ("detector", 0.06)):
        run(
            "mark", "calibrate", "--mark", OUT / f"{kind}.toml", "--human", OUT / "human-calibration.jsonl",
            "--generated", OUT / f"{kind}-calibration.jsonl", "--false-alarm", rate, "--key", OUT / "screener.key",
            "--out", OUT / f"{kind}.json", *(("--tokenizer", OUT / "tokenizer.json") if kind == "mark" else ()),
        )  # fmt: skip
    say("the screen")
    write_screen()
    run("corpus", "screen", OUT / "crawl", "--out", OUT / "screened", "--screen", OUT / "screen.toml", "--key", OUT / "screener.key")
    run("corpus", "check", OUT / "screened")
    say(f"the generated share: in truth {texts['generated'] / texts['all']:.1%} of the records")
    run("corpus", "estimate", OUT / "screened")
    say("what to look at next, and a mix that keeps half verified human records")
    run("corpus", "review", OUT / "screened", "--plan")
    run("corpus", "mix", OUT / "screened", "--out", OUT / "mix", "--human", "0.5", "--most-per-model", "0.1", "--key", OUT / "screener.key")
    say("and what the detector alone is worth to a model that is trained on crawls again and again, seven tenths of each generated")
    words = ("--data", "zipf", "--set", "data.states=5000", "--set", "data.exponent=1.1", "--samples", "20000", "--generations", "20")
    run("dose", "--metric", "support", "--keep", "0.9", *words, "--screen", OUT / "detector.json", "--contamination", "0.7")
    print(f"\nEverything is in {OUT}; {time.monotonic() - started:.0f} s.")
    return 0


def write_texts() -> dict[str, int]:
    """The corpus, what is registered, and what calibrates; numbers of records."""
    from studbook.data import open_source
    from studbook.learners import NGram
    from studbook.neural.options import Marking
    from studbook.screening.language import Language, TextCoding

    rng = np.random.default_rng(0)
    data = open_source("python-docs").load()
    stream = [data.space.vocabulary[i] for i in data.records.values.ravel()]
    documents = [" ".join(stream[i : i + WORDS]) for i in range(0, len(stream) - WORDS, WORDS)]
    rng.shuffle(documents)
    learned, other, human, calibration = (documents[start:stop] for start, stop in ((0, 1300), (1300, 2000), (2000, 2600), (2600, 3700)))
    coding = TextCoding.of(learned, size=6000)
    writers = {
        "writer-1": NGram(order=3, discount=0.5),
        "writer-2": NGram(order=2, discount=0.5, mark=Marking("kgw", keys=(KEY,), delta=3.0)),
        "writer-3": NGram(order=3, discount=0.5),
    }
    written = {name: write(learner, learned, coding, rng, 1100 if name == "writer-3" else 600) for name, learner in writers.items()}
    Language.fit(NGram(order=3), other, coding, block=WORDS, rng=rng).save(OUT / "human-model")
    Language.fit(NGram(order=3), written["writer-3"][:700], coding, block=WORDS, rng=rng).save(OUT / "generated-model")
    save_tokenizer(coding)
    (OUT / "mark.toml").write_text(f'kind = "kgw"\nvocabulary = {len(coding.vocabulary)}\nkey = {KEY}\ngamma = 0.25\ndelta = 3.0\n')
    (OUT / "detector.toml").write_text('kind = "likelihood_ratio"\nhuman = "human-model"\ngenerated = "generated-model"\ntokens = 64\n')
    lines("archive.jsonl", human[:300])
    lines("registered.jsonl", written["writer-1"])
    lines("human-calibration.jsonl", calibration)
    lines("mark-calibration.jsonl", written["writer-2"][100:])
    lines("detector-calibration.jsonl", written["writer-3"][700:1000])
    edited = [edit(text, 0.2, coding.vocabulary, rng) for text in written["writer-1"][100:200]]
    crawl = [*human, *written["writer-1"][:100], *edited, *written["writer-2"][:100], *written["writer-3"][1000:]]
    rng.shuffle(crawl)
    lines("crawl/documents.jsonl", crawl)
    return {"all": len(crawl) + 30, "generated": 400 + 20}


def write(learner: object, learned: list[str], coding: object, rng: np.random.Generator, n: int) -> list[str]:
    from studbook.screening.language import Language

    model = Language.fit(learner, learned, coding, block=WORDS, rng=rng).model
    sample = model.sample(n, rng=rng)
    return [" ".join(coding.vocabulary[i] for i in row) for row in sample.values]


def edit(text: str, share: float, vocabulary: tuple[str, ...], rng: np.random.Generator) -> str:
    """The text with a share of its words replaced."""
    words = text.split()
    for place in rng.choice(len(words), round(share * len(words)), replace=False):
        words[place] = vocabulary[rng.integers(1000)]
    return " ".join(words)


def save_tokenizer(coding: object) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(coding.vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(OUT / "tokenizer.json"))


def pictures() -> None:
    """Digits as pictures: ten signed as a model's, ten of the same whose credential was stripped, ten that nobody knows."""
    from sklearn.datasets import load_digits

    from studbook.pictures import jpeg_bytes, png_bytes
    from studbook.provenance import Statement, manifest_of, new_chain, sign_picture
    from studbook.records import Digest, Entry
    from studbook.registry import Register, fingerprint_pictures, picture_content

    chain = new_chain(OUT / "chain", "Example Laboratory")
    images = [np.kron(each * 15, np.ones((16, 16))).astype(np.uint8) for each in load_digits().images[:30]]
    images = [np.repeat(each[:, :, None], 3, axis=2) for each in images]
    signed = [sign_picture(png_bytes(each), chain, Statement(origin="generated", model="digits-1")) for each in images[:20]]
    prints = fingerprint_pictures(signed)
    with Register.open(OUT / "outputs.db") as register:
        for i, data in enumerate(signed):
            digests = [
                Digest(scheme.scheme, scheme.version, scheme.parameters, packed[row].tobytes())
                for scheme, packed, which in prints.packed
                for row in np.flatnonzero(which == i)
            ]
            manifest = register.put_manifest(manifest_of(data, "it"))
            register.add([Entry(picture_content(data), "image", "generated", "digits-1", digests=tuple(digests), manifest=manifest)])
    for i in range(30):
        data = signed[i] if i < 10 else jpeg_bytes(images[i], 80)
        (OUT / "crawl" / f"{i:02d}.{'png' if i < 10 else 'jpg'}").write_bytes(data)


def write_screen() -> None:
    (OUT / "screen.toml").write_text(
        '[signature]\ntrust = ["chain/root.pem"]\n\n[register]\nlocation = "outputs.db"\n\n[[watermark]]\n'
        + (OUT / "mark.toml").read_text()
        + 'tokenizer = "tokenizer.json"\ncalibration = "mark.json"\nsource = "writer-2"\n\n[[detector]]\n'
        + (OUT / "detector.toml").read_text()
        + 'calibration = "detector.json"\n'
    )


def lines(name: str, texts: list[str]) -> None:
    path = OUT / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def run(*arguments: object) -> None:
    shown = " ".join(str(each).replace(f"{OUT}/", "") for each in arguments)
    print(f"\n$ studbook {shown}", flush=True)
    subprocess.run([str(STUDBOOK), *map(str, arguments)], check=True)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
