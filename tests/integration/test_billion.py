"""The billion comparisons with a few hundred pictures of a tiny model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from studbook.cli.billion import billion_command
from studbook.data import open_source
from studbook.errors import CalibrationError, ConfigError, StudbookError
from studbook.learners import Diffusion
from studbook.neural.options import Training
from studbook.report.billion import detection_text, rate_text, render_billion, write_billion_report
from studbook.theory import PairedTrials, cluster_bootstrap, upper_bound
from studbook.verification.billion import BillionResult, Experiment, compare_billion, image_sampling
from studbook.verification.billion_errors import (
    ClosePairs,
    Design,
    bootstrap_collisions,
    collision_curve,
    list_close,
)
from studbook.verification.billion_hashes import CHEATS, HONEST, REFERENCE, Recipes, hash_setting
from studbook.verification.models import register_model
from studbook.verification.pictures import ImageEngine

N = 256
SCHEMES = ("phash", "pdq", "ahash")
ASKED = Experiment(N, image_sampling(4, 0.5), SCHEMES, seed=3, false_alarm=0.04)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    learner = Diffusion(conditional=True, training=Training(epochs=20, batch=64, rate=2e-3))
    learner.fit(open_source("digits").load().records, rng=np.random.default_rng(0)).save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> tuple[Path, BillionResult, np.ndarray]:
    out = tmp_path_factory.mktemp("whole")
    return out, *compare_billion(model, out, ASKED)


def lasting(result: BillionResult) -> BillionResult:
    return replace(result, comparison_s=0.0, made="")


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a picture was drawn")


def naive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unpackbits(a[:, None] ^ b[None], axis=-1).sum(axis=-1).astype(int)


def hashes_of(model: Path, out: Path, setting) -> dict[str, np.ndarray]:
    recipes = Recipes.of(register_model(model), ASKED.sampling, N, ASKED.seed)
    return hash_setting(out / "hashes", recipes, setting, SCHEMES, progress=refuse)


def test_counts_are_those_of_all_pairs_one_by_one(model, whole):
    out, result, _ = whole
    classes = np.arange(N) % 10
    recipe, same = np.eye(N, dtype=bool), classes[:, None] == classes[None]
    reference = hashes_of(model, out, REFERENCE)
    for setting in (*HONEST, *CHEATS):
        hashes = hashes_of(model, out, setting)
        for scheme in result.schemes:
            apart = naive(np.asarray(reference[scheme.scheme]), np.asarray(hashes[scheme.scheme]))
            for counts, group in zip(scheme.counts[setting.name], (recipe, same & ~recipe, ~same), strict=True):
                assert list(counts) == np.bincount(apart[group], minlength=scheme.n_bits + 1).tolist()
    assert result.comparisons == len(SCHEMES) * 6 * N * N


def test_rates_and_closest_pairs_follow_from_the_distances(model, whole):
    out, result, _ = whole
    reference, others = hashes_of(model, out, REFERENCE), {each.name: hashes_of(model, out, each) for each in (*HONEST, *CHEATS)}
    classes = np.arange(N) % 10
    for scheme in result.schemes:
        apart = {name: naive(np.asarray(reference[scheme.scheme]), np.asarray(each[scheme.scheme])) for name, each in others.items()}
        radius = scheme.chosen.radius_bits
        worst = np.max([np.diag(apart[each.name]) for each in HONEST], axis=0)
        chosen_on, counted_on = worst[: N // 2], worst[N // 2 :]
        assert radius == int(ASKED.target.limit(chosen_on.astype(float)))
        assert scheme.chosen.missed.events == (counted_on > radius).sum()
        assert scheme.chosen.missed.upper == upper_bound((counted_on > radius).sum(), N // 2, 0.95)
        for name, cheat in scheme.cheats.items():
            assert cheat.events == (np.diag(apart[name]) <= radius).sum()
        for group, same in (("same class", True), ("other class", False)):
            wrong = ((classes[:, None] == classes[None]) == same) & ~np.eye(N, dtype=bool)
            pairs = [pair for pair in scheme.closest if pair.group == group]
            assert pairs[0].distances[scheme.scheme] == min(apart[each.name][wrong].min() for each in HONEST)
            for pair in pairs:
                assert pair.distances[scheme.scheme] == apart[pair.setting][pair.places]
                assert wrong[pair.places]
            assert len({frozenset(pair.places) for pair in pairs}) == len(pairs) == 4
        uppers = [point.same_class.upper for point in scheme.curve]
        assert all(point.same_class.upper >= point.same_class.rate for point in scheme.curve)
        assert uppers[-1] == 1.0


def test_an_interrupted_run_goes_on_where_it_was(model, whole, tmp_path):
    def stop(doing: str) -> None:
        if doing.startswith(CHEATS[1].name):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_billion(model, tmp_path, ASKED, progress=stop)
    assert not (tmp_path / "results.json").exists()
    drawn: list[str] = []
    result, pictures = compare_billion(model, tmp_path, ASKED, progress=drawn.append)
    assert {doing.split(":")[0] for doing in drawn if "pictures" in doing} == {CHEATS[1].name, CHEATS[2].name}
    assert lasting(result) == lasting(whole[1])
    assert (pictures == whole[2]).all()


def test_the_second_run_draws_nothing_and_threads_change_nothing(model, whole, monkeypatch):
    out, first, pictures = whole
    before = {file.name: file.read_bytes() for file in (out / "hashes").iterdir()}
    monkeypatch.setattr(ImageEngine, "write", refuse)
    again, same = compare_billion(model, out, ASKED, threads=3)
    assert lasting(again) == lasting(first)
    assert (same == pictures).all()
    assert {file.name: file.read_bytes() for file in (out / "hashes").iterdir()} == before


def test_a_damaged_file_of_hashes_is_drawn_again(model, whole):
    out, first, _ = whole
    file = next((out / "hashes").glob("pdq-*.npy"))
    sound = file.read_bytes()
    file.write_bytes(sound[:-5])
    again, _ = compare_billion(model, out, ASKED)
    assert file.read_bytes() == sound
    assert lasting(again) == lasting(first)


def test_other_schemes_of_the_same_pictures_leave_stored_ones_alone(model, whole):
    out, first, _ = whole
    drawn: list[str] = []
    found, _ = compare_billion(model, out, replace(ASKED, schemes=("pdq",)), progress=drawn.append)
    assert not [doing for doing in drawn if "pictures" in doing]
    assert found.schemes[0].curve == next(s.curve for s in first.schemes if s.scheme == "pdq")


def test_results_are_stored_as_json(model, whole, tmp_path):
    result, _ = compare_billion(model, tmp_path, replace(ASKED, schemes=("phash",)))
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["schema"] == "studbook.billion/1"
    assert stored["experiment"]["seed"] == 3
    assert stored["schemes"][0]["chosen"]["radius_bits"] == result.schemes[0].chosen.radius_bits
    assert stored["schemes"][0]["votes"][1]["correlation"] == 0.1


def test_the_page_says_everything_and_needs_nothing(whole, tmp_path):
    _, result, pictures = whole
    page = write_billion_report(result, pictures, tmp_path).read_text()
    assert page == render_billion(result, pictures)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "connect-src &#x27;none&#x27;" in page
    text = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert text.count("<img ") == sum(len(scheme.closest) for scheme in result.schemes)
    for said in (
        "99.89\u00a0%",
        "0.0267\u00a0%",
        "All pairs aren&#x27;t independent",
        "cluster bootstrap",
        "arXiv 2307.01898",
        "Model and data",
    ):
        assert said in text, said
    for name in (*SCHEMES, *result.honest, *result.cheats):
        assert name in text
    for pair in result.schemes[0].closest:
        assert f"class {pair.classes[0]}, seed {pair.seeds[0]}" in text


def test_bad_input_is_refused_before_any_work(model, tmp_path):
    out = tmp_path / "out"
    texts = tmp_path / "texts"
    texts.mkdir()
    save_file({"a": torch.zeros(1)}, texts / "model.safetensors")
    (texts / "config.json").write_text("{}")
    free = tmp_path / "free"
    pictures = open_source("digits").load().records.take(np.arange(64))
    Diffusion(width=8, depth=1, training=Training(epochs=1)).fit(pictures, rng=np.random.default_rng(0)).save(free)

    def refused(kind: type[StudbookError], match: str, run) -> None:
        with pytest.raises(kind, match=match):
            run()
        assert not out.exists()

    refused(ConfigError, "makes texts", lambda: compare_billion(texts, out, ASKED))
    refused(ConfigError, "knows 0 classes", lambda: compare_billion(free, out, ASKED))
    refused(ConfigError, "threads is 0", lambda: compare_billion(model, out, ASKED, threads=0))
    refused(ConfigError, "no scheme 'phsh'", lambda: Experiment(N, ASKED.sampling, ("phsh",)))
    refused(ConfigError, "each once", lambda: Experiment(N, ASKED.sampling, ("pdq", "pdq")))
    refused(ConfigError, "steps", lambda: Experiment(N, image_sampling(1, 0.0)))
    refused(ConfigError, "steps", lambda: image_sampling(0, 0.0))
    refused(ConfigError, "confidence", lambda: Experiment(N, ASKED.sampling, confidence=1.0))
    refused(CalibrationError, "598 or more", lambda: Experiment(N, ASKED.sampling))
    few = Experiment(18, ASKED.sampling, false_alarm=0.3, confidence=0.9)
    refused(ConfigError, "two or more of each", lambda: compare_billion(model, out, few))


def test_bounds_by_counts_are_those_of_the_definition_and_agree_with_the_bootstrap():
    rng = np.random.default_rng(5)
    n, classes = 400, np.arange(400) % 4
    centres = rng.integers(0, 256, (4, 40, 4), dtype=np.uint8)
    packed = centres[classes, rng.integers(0, 40, n)] ^ np.packbits(rng.random((n, 32)) < 0.06, axis=1)
    other = packed ^ np.packbits(rng.random((n, 32)) < 0.01, axis=1)
    apart, off = naive(packed, other), ~np.eye(n, dtype=bool)
    for same in (True, False):
        group = off & ((classes[:, None] == classes[None]) == same)
        design = Design(classes, same=same)
        assert design.n_comparisons == group.sum()
        counts = np.bincount(apart[group], minlength=33)
        rows, columns = np.nonzero(group)
        close = ClosePairs(rows, columns, apart[group], 32)
        curve = collision_curve(close, design, counts, 0.95)
        for radius in (3, 6, 12):
            events = group & (apart <= radius)
            assert curve[radius].events == events.sum()
            if not events.any():
                assert curve[radius].upper == upper_bound(0, design.n_disjoint, 0.95)
                continue
            rate = events.sum() / group.sum()
            pull = (events - rate * group).sum(axis=0) + (events - rate * group).sum(axis=1)
            effective = min(group.sum(), rate * (1 - rate) * group.sum() ** 2 / np.square(pull).sum())
            expected = max(upper_bound(rate * effective, effective, 0.95), upper_bound(0, design.n_disjoint, 0.95))
            assert curve[radius].upper == pytest.approx(expected, rel=1e-9)
            boot = bootstrap_collisions(close, design, radius, curve[radius], confidence=0.95, rng=rng)
            assert boot.events == curve[radius].events
            assert boot.upper == pytest.approx(curve[radius].upper, rel=0.35)
    trials = PairedTrials.complete(np.array([]), np.array([]), n)
    assert Design(classes, same=True).n_disjoint == trials.n_independent
    none = cluster_bootstrap(trials, 0.95, rng=rng)
    assert none.upper == upper_bound(0, n // 2, 0.95)


def test_close_pairs_are_all_within_their_reach_and_unlisted_ones_are_bounded_more_carefully():
    rng = np.random.default_rng(6)
    packed, classes = rng.integers(0, 256, (300, 2), dtype=np.uint8), np.arange(300) % 3
    apart = naive(packed, packed)
    counts = np.zeros((3, 17), np.int64)
    for place, group in enumerate((np.eye(300, dtype=bool), ~np.eye(300, dtype=bool), np.zeros((300, 300), bool))):
        counts[place] = np.bincount(apart[group], minlength=17)
    close = list_close(packed, packed, counts, threads=1, limit=5_000)
    wrong = np.sort(apart[~np.eye(300, dtype=bool)])
    assert (np.sort(close.distances) == wrong[: len(close.distances)]).all()
    assert len(close.distances) + 300 <= 5_000 < (apart <= close.reach + 1).sum()
    assert list_close(packed, packed, counts, threads=1, limit=10).reach == -1
    assert list_close(packed, packed, counts, threads=1).reach == 16
    design = Design(classes, same=True)
    group = (classes[:, None] == classes[None]) & ~np.eye(300, dtype=bool)
    curve = collision_curve(close.of(design), design, np.bincount(apart[group], minlength=17), 0.95)
    assert {bound.how for bound in curve[: close.reach + 1]} == {"per-image counts"}
    assert {bound.how for bound in curve[close.reach + 1 :]} == {"disjoint pairs"}
    assert all(bound.upper >= bound.rate for bound in curve)


def test_bounds_on_collisions_hold_as_often_as_they_say():
    """Pictures near 30 centres of unequal weight: 200 studies of 120 pictures; a bound of 90 % fails in at most 20 % of them (seeded)."""
    rng = np.random.default_rng(7)
    shares = rng.dirichlet(np.full(30, 0.5))
    truth = float((shares**2).sum())
    classes, failed = np.zeros(120, np.int64), 0
    design = Design(classes, same=True)
    for _ in range(200):
        kinds = rng.choice(30, size=120, p=shares)
        rows, columns = np.nonzero((kinds[:, None] == kinds[None]) & ~np.eye(120, dtype=bool))
        counts = np.array([len(rows), 120 * 119 - len(rows)])
        curve = collision_curve(ClosePairs(rows, columns, np.zeros(len(rows), np.int64), 0), design, counts, 0.9)
        failed += curve[0].upper < truth
    assert failed <= 40


def test_numbers_are_written_so_that_nothing_is_rounded_away():
    assert rate_text(0.000267) == "0.0267\u00a0%"
    assert rate_text(8.4e-6) == "0.00084\u00a0%"
    assert detection_text(0.9989) == "99.89\u00a0%"
    assert detection_text(1.0) == ">\u00a099.9999999\u00a0%"


def test_the_command_shows_rates_and_majorities_beside_the_source(model, whole):
    app = typer.Typer()
    app.command("billion")(billion_command)
    asked = [str(model), "--out", str(whole[0]), "--images", str(N), "--steps", "4", "--guidance", "0.5", "--seed", "3"]
    asked += ["--schemes", ",".join(SCHEMES), "--false-alarm", "0.04"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "99.89" in shown.stdout
    assert "0.0267" in shown.stdout
    assert "aren't independent" in shown.stdout
    assert (whole[0] / "report.html").is_file()
    told = json.loads(CliRunner().invoke(app, [*asked, "--format", "json"]).stdout)
    assert [each["scheme"] for each in told["schemes"]] == list(SCHEMES)
    assert told["schemes"][0]["chosen"]["radius_bits"] == whole[1].schemes[0].chosen.radius_bits
    assert isinstance(CliRunner().invoke(app, [*asked, "--schemes", "phsh"]).exception, ConfigError)
