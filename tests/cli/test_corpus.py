"""``studbook corpus estimate``, ``mix`` and ``review`` through their Typer app, on screened folders."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from studbook.cli.corpus import app
from studbook.errors import CalibrationError, ConfigError, DataError, QuotaError, RecordError, RunFolderError
from studbook.provenance import SigningKey, open_signed
from studbook.records import DetectorCalibration
from studbook.screening.columns import CALIBRATIONS
from studbook.screening.mix import MixManifest

_spec = importlib.util.spec_from_file_location("screened_corpora", Path(__file__).parent.parent / "screened_corpora.py")
ABSENT = (
    b'[{"data": {"record": "../../etc/passwd"}, "annotations": [{"result": [{"from_name": "origin", "value": {"choices": ["human"]}}]}]}]'
)
corpora = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpora)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(each) for each in arguments], **options)


@pytest.fixture
def folder(tmp_path):
    return corpora.detected_corpus(tmp_path / "screened")


def test_estimate_gives_share_interval_parts_and_what_limits_it(folder):
    found = json.loads(run("estimate", folder, "--format", "json").stdout)
    # 1,850 aren't certain; (150 / 1,850 - .05) / .75 of them, and 50 registered ones, of 2,000.
    assert found["share"] == pytest.approx((50 + 1850 * (150 / 1850 - 0.05) / 0.75) / 2000)
    assert found["certain"] == 0.025
    assert found["certain"] <= found["lower"] < found["share"] < found["upper"] < 0.12
    assert [part["evidence"] for part in found["parts"]] == ["signature", "register", "detector", "none"]
    assert found["limit"]["by"] == "calibration"
    assert found["limit"]["more"] > 500
    shown = run("estimate", folder).stdout
    assert "The calibration set, not the corpus" in shown
    assert "more calibration records" in shown


def test_a_better_calibration_narrows_the_interval(folder, tmp_path):
    better = corpora.write_calibration(tmp_path / "lr.json", corpora.calibration("likelihood-ratio", 16_000, 20_000, 1_000, 20_000))
    widths = [
        found["upper"] - found["lower"]
        for more in ([], ["--calibration", better])
        for found in [json.loads(run("estimate", folder, *more, "--format", "json").stdout)]
    ]
    assert widths[1] < 0.6 * widths[0]


def test_without_a_detector_only_a_part_is_seen(tmp_path):
    rows = [corpora.row(i, "generated", "watermark", "kgw") for i in range(60)] + [corpora.row(i) for i in range(60, 1000)]
    corpora.write_screen(tmp_path / "w", rows, witnesses=[("kgw", "watermark")])
    with pytest.raises(CalibrationError, match="how often it errs"):
        raise run("estimate", tmp_path / "w").exception
    corpora.write_calibration(tmp_path / "w" / CALIBRATIONS / "kgw.json", corpora.calibration("kgw", 95, 100, 1, 10_000))
    found = json.loads(run("estimate", tmp_path / "w", "--format", "json").stdout)
    assert not found["complete"]
    assert 0.05 < found["lower"] <= found["share"] <= 0.06
    assert found["upper"] == 1.0
    assert "isn't seen" in run("estimate", tmp_path / "w").stdout


MEASURED = {"events": 2, "trials": 2000, "registered": 1000}


def near_corpus(folder, *, near=100, exact=50, people=0, n=2000, measured=MEASURED, size=1000):
    """Records that are registered, edited copies of others, some near a person's, and the rest."""
    rows = [corpora.row(i, "generated", "register", "register", source="model-a") for i in range(exact)]
    rows += [corpora.row(exact + i, "generated", "register", "register-minhash", source="model-a") for i in range(near)]
    rows += [corpora.row(exact + near + i, "human", "register", "register-minhash", source="Ann") for i in range(people)]
    rows += [corpora.row(i) for i in range(len(rows), n)]
    witnesses = [("register", "register")]
    return corpora.write_screen(folder, rows, witnesses=witnesses, register=({} if measured is None else {"minhash": measured}, size))


def test_what_is_near_a_registered_output_is_a_test_that_errs(tmp_path):
    found = json.loads(run("estimate", near_corpus(tmp_path / "s"), "--format", "json").stdout)
    # 1,850 others, of which .001 would be near one by accident: 1.85 of 100.
    assert found["share"] == pytest.approx((50 + 100 - 1850 * 0.001 / 0.999) / 2000)
    assert found["certain"] == 0.025
    assert found["certain"] < found["lower"] < found["share"]
    assert [(part["evidence"], part["witness"], part["records"]) for part in found["parts"]] == [
        ("register", "", 50), ("register", "register-minhash", 100), ("none", "", 1850)
    ]  # fmt: skip
    assert found["parts"][1]["tpr"] is None and found["parts"][1]["fpr"] == 0.001
    assert "signatures and the same bytes" in run("estimate", tmp_path / "s").stdout


def test_in_a_larger_register_more_may_be_near_by_accident(tmp_path):
    lower = []
    for size in (10, 1000, 30_000):
        found = json.loads(run("estimate", near_corpus(tmp_path / str(size), size=size), "--format", "json").stdout)
        lower.append((found["parts"][1]["fpr"], found["lower"]))
    assert [fpr for fpr, _ in lower] == [0.001, 0.001, pytest.approx(0.03)]  # of a smaller one it isn't known to be less
    assert lower[0][1] == lower[1][1] > lower[2][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measured": None}, "100 records are near registered outputs by minhash, and nothing says how often that errs"),
        ({"measured": {**MEASURED, "events": "2"}}, "nothing says how often"),
        ({"measured": {**MEASURED, "events": 3000}}, "nothing says how often"),
        ({"measured": {**MEASURED, "registered": 0}}, "nothing says how often"),
        ({"measured": {"events": 2}}, "nothing says how often"),
        ({"size": None}, "nothing says how often"),
        ({"size": True}, "nothing says how often"),
        ({"size": 10**9}, "among 1,000,000,000 registered outputs any record may be near one"),
    ],
)
def test_near_matches_whose_errors_nobody_knows_are_refused(tmp_path, options, message):
    result = run("estimate", near_corpus(tmp_path / "s", **options))
    assert isinstance(result.exception, CalibrationError) and message in str(result.exception)
    assert "studbook registry limit REGISTER minhash --calibrate" in str(result.exception)


def test_what_is_near_a_persons_may_be_generated_and_is_no_verified_human_record(tmp_path):
    folder = near_corpus(tmp_path / "s", near=0, exact=1000, people=200)
    found = json.loads(run("estimate", folder, "--format", "json").stdout)
    part = next(each for each in found["parts"] if each["witness"] == "register-minhash, human")
    assert part["records"] == 200 and part["lower"] == 0.0 <= part["generated"] <= part["upper"] < 20
    assert found["lower"] == found["share"] == 0.5
    assert found["upper"] == pytest.approx((1000 + 800 + part["upper"]) / 2000)
    refused = run("mix", folder, "--out", tmp_path / "mix", "--human", 0.1, "--most-per-model", 0.9)
    assert isinstance(refused.exception, QuotaError)


def test_where_every_record_is_certain_there_is_nothing_to_review(tmp_path):
    folder = near_corpus(tmp_path / "s", near=0, exact=40, n=40)
    assert json.loads(run("estimate", folder, "--format", "json").stdout)["complete"]
    plan = json.loads(run("review", folder, "--n", 3, "--format", "json").stdout)
    assert plan == {"half_width": 0.0, "expected": 0.0, "plan": [], "records": []}
    shown = run("review", folder, "--n", 3)
    assert shown.exit_code == 0 and "Nothing is open" in shown.stderr


def test_near_matches_can_be_reviewed(tmp_path):
    folder = near_corpus(tmp_path / "s", n=300)
    plan = json.loads(run("review", folder, "--n", 10, "--plan", "--format", "json").stdout)
    assert "register-minhash" in {each["group"] for each in plan["plan"]}
    assert {each["record"] for each in plan["records"]}.isdisjoint(f"corpus#{i}" for i in range(50))


def test_second_opinion_of_the_scores(folder, tmp_path):
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(3, 1, 300), rng.normal(0, 1, 300), rng.normal(3, 1, 100), rng.normal(0, 1, 1900)])
    labels = ["generated"] * 300 + ["human"] * 300 + [None] * 2000
    pq.write_table(pa.table({"score": scores, "label": labels}), tmp_path / "scores.parquet")
    found = json.loads(run("estimate", folder, "--scores", tmp_path / "scores.parquet", "--format", "json").stdout)["second_opinion"]
    assert {each["method"] for each in found} == {"acc", "emq"}
    assert all(each["lower"] - 0.02 <= 0.05 <= each["upper"] + 0.02 for each in found)


def test_mix_keeps_quotas_and_counts_near_duplicates_once(folder, tmp_path):
    key = SigningKey.generate()
    key.save(tmp_path / "key")
    result = run(
        "mix", folder, "--out", tmp_path / "mix", "--human", 0.5, "--most-per-model", 0.1, "--weights", "--key", tmp_path / "key",
        "--format", "json",
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["size"], found["human"], found["largest"]) == (200, 100, 200)
    table = pq.read_table(sorted((tmp_path / "mix").glob("*.parquet")))
    assert table.num_rows == 200
    assert sum(table.column("weight").to_pylist()) == pytest.approx(200)
    assert table.column("origin").to_pylist().count("human") == 100
    signed = open_signed((tmp_path / "mix" / "manifest.json").read_bytes(), MixManifest, "manifest.json", keys={key.public})
    assert signed.record.size == 200
    again = run("mix", folder, "--out", tmp_path / "again", "--human", 0.5, "--most-per-model", 0.1, "--weights", "--format", "json")
    assert json.loads(again.stdout)["files"] == found["files"]


def test_copies_and_edited_copies_are_one_cluster(tmp_path):
    words = [f"word{i}" for i in range(200)]
    texts = [" ".join(words), " ".join(words), " ".join([*words[:190], "another", "end"]), " ".join(reversed(words)), "", "!!"]
    corpora.write_screen(tmp_path / "s", [corpora.row(i, text=text) for i, text in enumerate(texts)])
    found = json.loads(run("mix", tmp_path / "s", "--out", tmp_path / "m", "--human", 0, "--most-per-model", 1, "--format", "json").stdout)
    assert (found["read"], found["clusters"], found["size"]) == (6, 4, 4)


def test_a_mix_that_cant_be_met_is_refused_and_nothing_is_written(folder, tmp_path):
    result = run("mix", folder, "--out", tmp_path / "mix", "--human", 0.5, "--most-per-model", 0.1, "--size", 1000)
    assert isinstance(result.exception, QuotaError)
    assert "there are 100 human ones: at most 200 records" in str(result.exception)
    assert not (tmp_path / "mix").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    refused = run("mix", folder, "--out", tmp_path / "other", "--human", 0.5, "--most-per-model", 0.1)
    assert isinstance(refused.exception, RunFolderError)
    assert isinstance(run("mix", folder, "--out", folder, "--human", 0.5, "--most-per-model", 0.1).exception, ConfigError)


def test_review_asks_saves_at_once_and_goes_on(folder):
    first = run("review", folder, "--n", 12, input="g\nx\nh\ns\nq\n")
    assert first.exit_code == 0, first.output
    saved = [json.loads(line) for line in (folder / "review.jsonl").read_text().splitlines()]
    assert [each["choice"] for each in saved] == ["generated", "human", "skip"]
    second = json.loads(run("review", folder, "--n", 12, "--format", "json").stdout)
    assert not {each["record"] for each in second["records"]} & {each["record"] for each in saved}
    assert second["expected"] < second["half_width"]


def test_label_studio_both_ways_and_the_answers_take_part(folder, tmp_path):
    before = json.loads(run("estimate", folder, "--format", "json").stdout)
    assert run("review", folder, "--n", 60, "--export", tmp_path / "tasks.json").exit_code == 0
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 60
    assert all("record number" in task["data"]["text"] for task in tasks)
    for i, task in enumerate(tasks):
        choice = "generated" if task["data"]["group"] == "detector" and i % 2 else "human"
        result = [{"type": "choices", "from_name": "origin", "to_name": "text", "value": {"choices": [choice]}}]
        task["annotations"] = [{"was_cancelled": True, "result": []}, {"result": result}]
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    assert run("review", folder, "--import", tmp_path / "done.json").exit_code == 0
    after = json.loads(run("estimate", folder, "--format", "json").stdout)
    assert after["answers"] == 60
    assert after["upper"] - after["lower"] < before["upper"] - before["lower"]
    SigningKey.generate().save(tmp_path / "key")
    renewed = run("review", folder, "--renew", tmp_path / "new.json", "--key", tmp_path / "key")
    assert renewed.exit_code == 0, renewed.output
    record = open_signed((tmp_path / "new.json").read_bytes(), DetectorCalibration, "new.json").record
    assert record.false_hits.units > 500
    assert "60 answers" in record.code
    assert isinstance(run("review", folder, "--renew", tmp_path / "n.json").exception, ConfigError)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"[" * 100_000, RecordError),
        (b"not json", RecordError),
        (b'{"a": 1}', DataError),
        (b"[1]", DataError),
        (b'[{"data": {"record": 5}}]', DataError),
        (ABSENT, DataError),
        (b'[{"record": "corpus#160", "origin": "robot"}]', DataError),
        (b'[{"record": "corpus#160", "content": "sha256:0", "origin": "human"}]', DataError),
        (b'[{"record": "corpus#3", "origin": "human"}]', DataError),
        (b'[{"data": {"record": "corpus#160"}, "annotations": 3}]', DataError),
    ],
)  # fmt: skip
def test_hostile_label_studio_exports_change_nothing(folder, tmp_path, content, error):
    (tmp_path / "export.json").write_bytes(content)
    result = run("review", folder, "--import", tmp_path / "export.json")
    assert isinstance(result.exception, error), result.exception
    assert not (folder / "review.jsonl").exists()


def test_damaged_folders_are_typed_errors(folder, tmp_path):
    assert isinstance(run("estimate", tmp_path).exception, RunFolderError)
    (folder / "review.jsonl").write_text('{"record": "x"}\n')
    assert isinstance(run("estimate", folder).exception, DataError)
    (folder / "review.jsonl").write_text('{"cut off')
    assert run("estimate", folder).exit_code == 0
    (folder / CALIBRATIONS / "lr.json").write_text("{}")
    assert isinstance(run("estimate", folder).exception, RecordError)
    (folder / "kept" / "part-00000.parquet").write_bytes(b"PAR1 no")
    assert isinstance(run("estimate", folder).exception, (RecordError, DataError))
    assert isinstance(run("mix", folder, "--out", tmp_path / "m", "--human", 0, "--most-per-model", 1).exception, DataError)


def test_a_detector_that_cannot_tell_is_left_out_and_named(folder, tmp_path):
    useless = corpora.write_calibration(tmp_path / "lr.json", corpora.calibration("likelihood-ratio", 26, 50, 25, 50))
    found = json.loads(run("estimate", folder, "--calibration", useless, "--format", "json").stdout)
    assert found["left_out"][0]["witness"] == "lr" and not found["complete"]
    assert (found["share"], found["lower"], found["upper"]) == (0.025, 0.025, 0.95)  # registered; all but those that people signed for
    assert found["limit"]["by"] == "detector"
    shown = run("estimate", folder, "--calibration", useless).stdout
    assert "Left out: the detector lr" in shown and "can't tell apart" in shown


def test_where_one_detector_of_two_cannot_tell_the_other_one_counts_its_own_hits(tmp_path):
    def hit(*names):
        findings = [{"evidence": "detector", "witness": name, "origin": "generated", "reason": "a hit"} for name in names]
        return {"origin": "generated", "evidence": "detector", "witness": names[0], "findings": json.dumps(findings)}

    rows = [corpora.row(i) for i in range(1000)]
    for i in range(300):
        rows[i] |= hit("coin", "good") if i < 100 else hit("coin") if i < 200 else hit("good")
    corpora.write_screen(tmp_path / "two", rows, witnesses=[("coin", "detector"), ("good", "detector")])
    corpora.write_calibration(tmp_path / "two" / CALIBRATIONS / "coin.json", corpora.calibration("coin", 500, 1000, 500, 1000))
    corpora.write_calibration(tmp_path / "two" / CALIBRATIONS / "good.json", corpora.calibration("good", 800, 1000, 50, 1000))
    found = json.loads(run("estimate", tmp_path / "two", "--format", "json").stdout)
    assert [each["witness"] for each in found["left_out"]] == ["coin"]
    assert found["share"] == pytest.approx((200 / 1000 - 0.05) / 0.75) and found["complete"]


def test_answers_about_records_of_another_corpus_are_refused(folder):
    answers = [{"record": "elsewhere#1"}, {"content": "sha256:" + "0" * 64}]
    assert run("review", folder, "--n", 1, input="h\n").exit_code == 0
    line = json.loads((folder / "review.jsonl").read_text())
    for change in answers:
        (folder / "review.jsonl").write_text(json.dumps(line | change) + "\n")
        with pytest.raises(DataError, match="isn't open in this corpus"):
            raise run("estimate", folder).exception
    (folder / "review.jsonl").write_text(json.dumps(line | {"group": "none", "stratum": "mine"}) + "\n")
    assert json.loads(run("estimate", folder, "--format", "json").stdout)["answers"] == 1
