"""``studbook dose`` behind a screen."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from studbook.cli.dose import dose_command
from studbook.errors import ConfigError, RecordError, SignatureError
from studbook.planning import ScreenRates, read_screen, screened_dose
from studbook.provenance import SigningKey, sign
from studbook.records import DetectorCalibration
from studbook.records.calibration import Rate
from studbook.theory import Screening, clopper_pearson, kept_share

app = typer.Typer()
app.command("dose")(dose_command)
SHA = "sha256:" + 64 * "0"


def ask(*more: str):
    given = ["--metric", "heterozygosity", "--keep", "0.95", "--samples", "1000", "--generations", "100000"]
    return CliRunner().invoke(app, [*given, *more])


def calibration(events: int = 160, false: int = 2, units: int = 200) -> DetectorCalibration:
    hits, false_hits = (Rate(name, n, units, *clopper_pearson(n, units, 0.95)) for name, n in (("hits", events), ("false", false)))
    return DetectorCalibration(
        detector="kgw", kind="text", parameters=(), threshold=3.0, false_alarm=0.01, confidence=0.95, hits=hits, false_hits=false_hits,
        attacked=(), generated=SHA, human=SHA, seed=0, code="test", made="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def signed(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_bytes(sign(calibration(), SigningKey.generate()))
    return path


def test_the_answer_at_the_point_and_at_the_worse_ends(signed):
    answer = json.loads(ask("--screen", str(signed), "--contamination", "0.999", "--format", "json").stdout)
    assert answer["dose"]["fresh"] == 10
    assert (answer["rates"]["tpr"], answer["rates"]["fpr"]) == (0.8, 0.01)
    point, worse, raw = answer["point"], answer["pessimistic"], answer["unscreened"]
    assert worse["tpr"] < 0.8 < 0.86
    assert raw["real"] == 1
    assert raw["residual"] == pytest.approx(0.999)
    assert point["residual"] == pytest.approx(Screening(0.999, 0.8, 0.01).residual)
    assert raw["kept"] < worse["kept"] < point["kept"]
    assert raw["verified"] > worse["verified"] >= point["verified"] > 0


def test_verified_records_are_as_few_as_reach_the_dose():
    answer = screened_dose("variance", 0.95, 1000, 10**5, contamination=0.999, rates=ScreenRates.stated(0.8, 0.01))
    outlook, wanted = answer.point, answer.dose.fresh
    real = [x + (1000 - x) * (1 - outlook.residual) for x in (outlook.verified - 1, outlook.verified)]
    assert real[0] < wanted <= real[1] + 1e-9
    assert outlook.kept == kept_share(outlook.real, 1000, 10**5)


def test_enough_is_said(signed):
    shown = ask("--screen", str(signed), "--contamination", "0.3").stdout
    assert "That is enough: no verified real data are needed" in shown
    assert "At the worse ends of its 95 % intervals" in shown
    shown = ask("--tpr", "0.5", "--fpr", "0", "--contamination", "0.999").stdout
    assert "That is too little" in shown
    assert "worse ends" not in shown


def test_nothing_that_passes_is_refused():
    with pytest.raises(ConfigError, match="rejects every candidate"):
        screened_dose("variance", 0.5, 100, 10, contamination=1.0, rates=ScreenRates.stated(1.0, 0.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tpr", "0.5"], "without --contamination"),
        (["--contamination", "0.5"], "needs the screen's error rates"),
        (["--contamination", "0.5", "--tpr", "0.5"], "needs the screen's error rates"),
        (["--contamination", "1.5", "--tpr", "0.5", "--fpr", "0.1"], "contamination is 1.5"),
        (["--contamination", "0.5", "--screen", "there/is/none.json"], "none.json can't be read: No such file"),
    ],
)
def test_options_that_dont_fit(options, words):
    error = ask(*options).exception
    assert isinstance(error, ConfigError)
    assert words in str(error)


def test_a_calibration_that_was_changed(signed, tmp_path):
    data = signed.read_bytes()
    assert read_screen(signed).tpr == 0.8
    signed.write_bytes(data.replace(b'"events":160', b'"events":190'))
    with pytest.raises(SignatureError):
        read_screen(signed)
    signed.write_bytes(b"{}")
    with pytest.raises(RecordError):
        read_screen(signed)
