"""The screen with real witnesses: credentials, a register, marks; and inside datatrove and Ray."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from studbook.cli.corpus import app
from studbook.data import open_source
from studbook.errors import DataError, RunFolderError
from studbook.marks.calibrate_images import calibrate_picture_mark
from studbook.marks.dalle_strip import DalleStrip
from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import SigningKey, Statement, manifest_of, new_chain, sign, sign_bytes, sign_picture
from studbook.records import Entry
from studbook.registry import Register, fingerprint_pictures, picture_content
from studbook.screening import Limits, Screen, screen_corpus
from studbook.screening.estimate import estimate_corpus
from studbook.screening.folder import check_screen
from studbook.screening.settings import open_screen
from studbook.screening.witnesses import RegisterWitness


@pytest.fixture(scope="module")
def pictures(shared_data):
    return [np.repeat(np.repeat(each, 4, 0), 4, 1) for each in np.load(shared_data / "flowers17-64.npz")["images"][:80]]


@pytest.fixture(scope="module")
def documents():
    data = open_source("python-docs").load()
    words = [data.space.vocabulary[i] for i in data.records.values.ravel()[:24_000]]
    return [" ".join(words[i : i + 120]) for i in range(0, len(words), 120)]


def rows(site, out, part):
    names = ("record", "origin", "evidence", "witness", "reason", "source", "findings")
    found = zip(*(site.column(out, part, name) for name in names), strict=True)
    return {each[0].rpartition("/")[2]: dict(zip(names[1:], each[1:], strict=True)) for each in found}


class TestSignature:
    @pytest.fixture
    def corpus(self, pictures, tmp_path):
        chain = new_chain(tmp_path / "chain", "Example Laboratory")
        stranger = new_chain(tmp_path / "stranger", "A Stranger")
        folder = tmp_path / "corpus"
        folder.mkdir()
        made = sign_picture(png_bytes(pictures[0]), chain, Statement(origin="generated", model="pixels-1"))
        (folder / "made.png").write_bytes(made)
        (folder / "taken.png").write_bytes(sign_picture(png_bytes(pictures[1]), chain, Statement(origin="human")))
        (folder / "changed.png").write_bytes(png_bytes(pictures[4] ^ 1))
        (folder / "changed.png.c2pa").write_bytes(sign_bytes(png_bytes(pictures[4]), chain, Statement(origin="human")))
        (folder / "stranger.png").write_bytes(sign_picture(png_bytes(pictures[2]), stranger, Statement(origin="human")))
        (folder / "plain.png").write_bytes(png_bytes(pictures[3]))
        (folder / "note.txt").write_bytes(b"\xef\xbb\xbfA note that somebody wrote.")
        (folder / "note.txt.c2pa").write_bytes(sign_bytes((folder / "note.txt").read_bytes(), chain, Statement(origin="human")))
        return folder, tmp_path / "chain"

    def test_who_signed_decides_and_what_does_not_verify_is_only_noted(self, corpus, screening_site, tmp_path):
        folder, chain = corpus
        screen_corpus([folder], tmp_path / "out", open_screen({"signature": {"trust": [str(chain / "root.pem")]}}))
        kept, rejected = rows(screening_site, tmp_path / "out", "kept"), rows(screening_site, tmp_path / "out", "rejected")
        assert set(rejected) == {"made.png"} and rejected["made.png"]["source"] == "pixels-1"
        assert {name: row["origin"] for name, row in kept.items()} == {
            "taken.png": "human", "note.txt": "human", "stranger.png": "unknown", "plain.png": "unknown", "changed.png": "unknown",
        }  # fmt: skip
        assert "isn't trusted" in kept["stranger.png"]["reason"] and "doesn't count" in kept["changed.png"]["reason"]
        assert kept["plain.png"]["reason"] == "no witness knows it"


class TestRegister:
    def test_edited_texts_and_copies_of_pictures_are_found_and_others_are_not(self, documents, pictures, screening_site, tmp_path):
        with Register.open(tmp_path / "outputs.db", create=True) as register:
            register.add_texts(documents[:50], model="writer-1", source="test")
            register.add_texts(documents[190:195], origin="human", source="archive")
            register.add_images([png_bytes(each) for each in pictures[:20]], model="pixels-1")
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        rng = np.random.default_rng(3)
        lines = []
        for i, text in enumerate(documents):
            words = text.split()
            if 25 <= i < 50:  # a tenth of the words are others
                for place in rng.choice(len(words), len(words) // 10, replace=False):
                    words[place] = f"edited{rng.integers(1000)}"
            lines.append(json.dumps({"text": " ".join(words), "n": i}))
        (corpus / "texts.jsonl").write_text("\n".join(lines))
        for i, each in enumerate(pictures[:40]):
            (corpus / f"{i:02d}.jpg").write_bytes(jpeg_bytes(each, 80))
        summary = screen_corpus([corpus], tmp_path / "out", open_screen({"register": {"location": str(tmp_path / "outputs.db")}}))
        assert summary["rejected"] == 50 + 20
        rejected = [table for table in screening_site.tables(tmp_path / "out", "rejected") if "n" in table.column_names]
        assert [n for table in rejected for n in table["n"].to_pylist()] == list(range(50))
        reasons = [reason for table in rejected for reason in table["reason"].to_pylist()]
        assert sum("the same bytes" in each for each in reasons) == 25 and sum("minhash is" in each for each in reasons) == 25
        names = [name for table in rejected for name in table["witness"].to_pylist()]
        assert names == ["register"] * 25 + ["register-minhash"] * 25
        p_values = [p_value for table in rejected for p_value in table["p_value"].to_pylist()]
        assert p_values == [None] * 25 + [2 / 2226] * 25
        found = estimate_corpus(tmp_path / "out")
        # 5 texts and 135 others that nobody registered; pictures are near by either hash.
        assert found.certain == 25 / 240 < found.lower < found.share < 70 / 240 and not found.complete
        kept = [table for table in screening_site.tables(tmp_path / "out", "kept") if "n" in table.column_names]
        assert sum(each == "human" for table in kept for each in table["origin"].to_pylist()) == 5

    def test_a_register_that_grows_is_noticed(self, documents, tmp_path):
        (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents[:40]))
        key, out = SigningKey.generate(), tmp_path / "out"

        class Grows(RegisterWitness):
            asked = 0

            def examine(self, records):
                type(self).asked += 1
                if self.asked == 3:
                    raise KeyboardInterrupt
                return super().examine(records)

        with Register.open(tmp_path / "outputs.db", create=True) as register:
            register.add_texts(documents[:5], model="writer-1")
            screen, limits = Screen((RegisterWitness(register),)), Limits(records=10)
            with pytest.raises(KeyboardInterrupt):
                screen_corpus([tmp_path / "corpus.jsonl"], out, Screen((Grows(register),)), limits=limits)
            register.add_texts(documents[:40], model="writer-1")
            summary = screen_corpus([tmp_path / "corpus.jsonl"], out, screen, limits=limits, key=key)
            sizes = {"register": {"first": {"entries": 5, "minhash": 5}, "last": {"entries": 40, "minhash": 40}}}
            assert summary["rejected"] == 5 + 20 and summary["sizes"] == sizes
            assert json.loads(check_screen(out, keys={key.public}).record.settings)["sizes"] == sizes
            register.add_texts(documents[40:50], model="writer-1")
            arguments = [tmp_path / "corpus.jsonl", "--out", out, "--register", tmp_path / "outputs.db"]
            shown = CliRunner().invoke(app, ["screen", *map(str, arguments)])
        # Another size of the pieces is another screen; a new one is up to date, and says nothing.
        assert isinstance(shown.exception, RunFolderError)
        arguments[2] = tmp_path / "new"
        for text, told in (("a new one", False), ("another new one", True)):
            shown = CliRunner().invoke(app, ["screen", *map(str, arguments)])
            assert shown.exit_code == 0
            assert ("had 50 entries when this screen began, and has 51 now" in shown.stderr) == told
            with Register.open(tmp_path / "outputs.db") as register:
                register.add_texts([text])

    def test_a_limit_that_is_set_meanwhile_is_noticed(self, documents, tmp_path):
        (tmp_path / "corpus.jsonl").write_text(json.dumps({"text": documents[0]}))

        class Sets(RegisterWitness):
            def examine(self, records):
                self.register.set_limit("minhash", 0.5)
                return super().examine(records)

        with Register.open(tmp_path / "outputs.db", create=True) as register:
            register.add_texts(documents[:5], model="writer-1")
            with pytest.raises(DataError, match="the screen was changed while it ran: a register's limits"):
                screen_corpus([tmp_path / "corpus.jsonl"], tmp_path / "out", Screen((Sets(register),)))
        assert not (tmp_path / "out" / "summary.json").exists()

    def test_one_content_of_a_person_and_of_a_model_decides_nothing(self, documents, tmp_path):
        with Register.open(tmp_path / "outputs.db", create=True) as register:
            register.add_texts(documents[:1], model="writer-1")
            register.add_texts(documents[:1], origin="human")
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        (corpus / "a.txt").write_text(documents[0])
        summary = screen_corpus([corpus], tmp_path / "out", open_screen({"register": {"location": str(tmp_path / "outputs.db")}}))
        assert summary["counts"] == [{"origin": "unknown", "evidence": "none", "records": 1}]

    def test_a_stripped_credential_is_found_again_and_a_stolen_one_is_given_away(self, pictures, screening_site, tmp_path):
        chain = new_chain(tmp_path / "chain", "Example Laboratory")
        signed = sign_picture(png_bytes(pictures[0]), chain, Statement(origin="generated", model="pixels-1"))
        with Register.open(tmp_path / "outputs.db", create=True) as register:
            manifest = register.put_manifest(manifest_of(signed, "it"))
            prints = fingerprint_pictures([signed, png_bytes(pictures[1])])
            entries = [
                Entry(picture_content(data), "image", "generated", "pixels-1", digests=tuple(_digests(prints, i)), manifest=manifest)
                for i, data in enumerate((signed, png_bytes(pictures[1])))
            ]
            register.add(entries)
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        for i in (0, 1):
            (corpus / f"{i}.jpg").write_bytes(jpeg_bytes(pictures[i], 85))
        table = {"register": {"location": str(tmp_path / "outputs.db")}, "signature": {"trust": [str(tmp_path / "chain")]}}
        screen_corpus([corpus], tmp_path / "out", open_screen(table))
        found = rows(screening_site, tmp_path / "out", "rejected")
        assert "stripped and found again, signed by Example Laboratory" in found["0.jpg"]["reason"]
        assert "belongs to another picture" in found["1.jpg"]["reason"]


def _digests(prints, i):
    from studbook.records import Digest

    for scheme, packed, which in prints.packed:
        for row in np.flatnonzero(which == i):
            yield Digest(scheme.scheme, scheme.version, scheme.parameters, packed[row].tobytes())


def test_a_visible_strip_with_its_calibration(pictures, screening_site, tmp_path):
    key, mark = SigningKey.generate(), DalleStrip()
    calibration = calibrate_picture_mark(mark, pictures[:60], false_alarm=0.3, confidence=0.9, seed=1, changes=())
    (tmp_path / "strip.json").write_bytes(sign(calibration, key))
    (tmp_path / "screen.toml").write_text(
        f'trust_calibrations = ["{key.public}"]\n[[watermark]]\nkind = "dalle_strip"\ncalibration = "strip.json"\n'
    )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, each in enumerate(pictures[60:70]):
        (corpus / f"{i}.png").write_bytes(png_bytes(mark.embed(each) if i < 5 else each))
    screen_corpus([corpus], tmp_path / "out", open_screen(tmp_path / "screen.toml"), key=key)
    assert {f"{i}.png" for i in range(5)} <= set(rows(screening_site, tmp_path / "out", "rejected"))
    assert (tmp_path / "out" / "calibrations" / "dalle-strip.json").read_bytes() == (tmp_path / "strip.json").read_bytes()
    assert check_screen(tmp_path / "out", keys={key.public})
    assert read_picture((corpus / "0.png").read_bytes(), "it").shape == pictures[40].shape


def test_the_screen_as_a_datatrove_filter(documents, tmp_path):
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    from studbook.screening.on_datatrove import ScreenFilter

    with Register.open(tmp_path / "outputs.db", create=True) as register:
        register.add_texts(documents[:30], model="writer-1")
    (tmp_path / "screen.toml").write_text('[register]\nlocation = "outputs.db"\n')
    for part in range(2):
        lines = [json.dumps({"text": text, "id": str(i)}) for i, text in enumerate(documents[:100]) if i % 2 == part]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{part}.jsonl").write_text("\n".join(lines))
    dropped = JsonlWriter(str(tmp_path / "dropped"), compression=None)
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        ScreenFilter(str(tmp_path / "screen.toml"), dropped, batch_size=16),
        JsonlWriter(str(tmp_path / "kept"), compression=None),
    ]
    LocalPipelineExecutor(pipeline, tasks=2, workers=2, logging_dir=str(tmp_path / "logs")).run()
    kept = [json.loads(line) for path in (tmp_path / "kept").glob("*.jsonl") for line in path.read_text().splitlines()]
    gone = [json.loads(line) for path in (tmp_path / "dropped").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(int(each["id"]) for each in gone) == list(range(30)) and len(kept) == 70
    assert {each["metadata"]["filter_reason"] for each in gone} == {"generated_by_register"}
    assert gone[0]["metadata"]["source"] == "writer-1" and kept[0]["metadata"]["origin"] == "unknown"


@pytest.mark.ray
def test_the_screen_as_a_map_over_ray_data(documents, tmp_path):
    import ray

    from studbook.screening.on_ray import ScreenBatches

    with Register.open(tmp_path / "outputs.db", create=True) as register:
        register.add_texts(documents[:30], model="writer-1")
    (tmp_path / "screen.toml").write_text('[register]\nlocation = "outputs.db"\n')
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        table = pa.table({"text": [*documents[:100], ""], "origin": ["web"] * 101})
        dataset = ray.data.from_arrow(table).map_batches(
            ScreenBatches, fn_constructor_args=(str(tmp_path / "screen.toml"),), batch_format="pyarrow", batch_size=40, concurrency=1
        )
        found = dataset.to_pandas()
    finally:
        ray.shutdown()
    assert list(found["origin"]).count("generated") == 30 and set(found["original_origin"]) == {"web"}
    assert list(found[found["text"] == ""]["reason"]) == ["its text is empty"]
