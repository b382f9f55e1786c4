"""The report on neural runs: densities of perplexity, prompts, pictures, training and its failures, the parts of drift, tables."""

from __future__ import annotations

import json
import math
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from studbook.errors import RunFolderError
from studbook.report import chart, load_run, summary, write_report
from studbook.report.aggregate import aggregate
from studbook.report.by_generation import generation_table, interval_half, tabled_metrics, with_interval
from studbook.report.decomposition import drift_sentence, measured_change, parts_of
from studbook.report.densities import bins_of
from studbook.report.figures import all_figures
from studbook.report.findings import findings
from studbook.report.names import group_families, learner_noun
from studbook.report.page import render_page
from studbook.report.parts import Part
from studbook.report.sheets import sheets
from studbook.report.specs import page_spec, static_spec
from studbook.report.strips import strips
from studbook.report.training import failure_sentences, training_sentences

FOLDERS = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "browser" / "run_folders.py")))
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}<!--"


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return FOLDERS.language_folder(tmp_path_factory.mktemp("language"), generations=3, replicates=3, n_words=6000)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    return FOLDERS.flowers_folder(tmp_path_factory.mktemp("flowers"), generations=4, replicates=2, side=12)


@pytest.fixture(scope="module")
def page(language):
    return write_report(language).read_text(encoding="utf-8")


def small(folder: Path, values: dict[str, list[list[float]]], labels: tuple[str, ...] = ("replace",), kind: str = "text") -> Path:
    """A run whose cells have ``values[metric][cell]`` by generation, in one replicate."""
    cells = [
        FOLDERS.cell_of(i, label, {"learner.decoding.temperature": label}, {"kind": "replace"}, FOLDERS.data_of("d", kind, 9), "gpt")
        for i, label in enumerate(labels)
    ]
    rows = [
        FOLDERS.tall(cell, metric, np.array([given]), np.arange(len(given)))
        for metric, by_cell in values.items()
        for cell, given in enumerate(by_cell)
    ]
    return FOLDERS.write_folder(folder, "small", cells, rows)


def copy_of(folder: Path, target: Path) -> Path:
    """A run folder without its report."""
    for path in folder.rglob("*"):
        if path.is_file() and "report" not in path.relative_to(folder).parts:
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def words_of_page(*folders: Path) -> str:
    """The page without its charts, which take most of the time."""
    runs = [load_run(folder) for folder in folders]
    parts = []
    for run in runs:
        pictures = {c: p for c in run.cells if (p := run.pictures(c.index))}
        prefix = run.name if len(runs) > 1 else ""
        parts.append(Part(run, aggregate(run), pictures, (), sheets(pictures), prefix, strip=strips(pictures)))
    return render_page(parts)


# Densities


def test_a_density_becomes_ridges_and_a_map(language):
    run = load_run(language)
    curves = aggregate(run)
    family = next(f for f in group_families(curves["metric"].unique().to_list()) if f.style == "density")
    assert (family.name, len(family.members)) == ("perplexity_density", 102)
    figures = {f.name: f for f in all_figures(run, curves, {})}
    assert {"perplexity-density", "perplexity-density-map"} <= set(figures)
    assert chart(run, "perplexity_density").to_dict()["title"]["text"] == "Perplexity of single sequences"
    bins = bins_of(curves, run.cells, family, 11)
    assert bins["name"].unique(maintain_order=True).to_list() == ["real", "0", "1", "2", "3"]
    share = bins.filter((pl.col("label") == "replace") & (pl.col("name") == "2")).select("x0", "x1", "share")
    assert share["share"].sum() == pytest.approx(1.0, abs=0.02)
    member = family.members[0]
    assert ((share["x1"] / share["x0"]) - 10**0.1).abs().max() < 1e-9
    assert member.startswith("perplexity_density.")


def test_the_bins_of_a_density_are_the_means_over_the_replicates(language):
    run = load_run(language)
    curves = aggregate(run)
    family = next(f for f in group_families(curves["metric"].unique().to_list()) if f.style == "density")
    bins = bins_of(curves, run.cells, family, 11)
    row = bins.filter((pl.col("label") == "keep 10 %") & (pl.col("name") == "3")).sort("share").row(-1, named=True)
    metric = f"perplexity_density.e{round(10 * math.log10(row['x0'])) / 10:.1f}"
    chosen = (pl.col("metric") == metric) & (pl.col("cell") == 1) & (pl.col("generation") == 3)
    assert row["share"] == pytest.approx(run.measurements.filter(chosen)["value"].mean())


def test_ridges_stand_on_their_rows_and_carry_their_tooltips_on_the_page(language):
    run = load_run(language)
    figure = next(f for f in all_figures(run, aggregate(run), {}) if f.name == "perplexity-density")
    for row in figure.rows:
        assert row["base"] - 2.2 - 1e-9 <= row.get("top", row["base"]) <= row["base"]
    assert min(row["top"] - row["base"] for row in figure.rows if "top" in row) == pytest.approx(-2.2, rel=1e-3)
    assert {row["name"] for row in figure.rows if "first" in row} == {"0", "1", "2", "3"}
    layers = page_spec(static_spec(figure))["spec"]["spec"]["layer"]
    targets = [layer for layer in layers if layer["mark"].get("opacity") == 0]
    assert len(targets) == 1
    assert "tooltip" in targets[0]["encoding"]
    assert len(static_spec(figure)["spec"]["layer"]) == 2


def test_the_map_shows_the_median_of_each_generation(language):
    run = load_run(language)
    figure = next(f for f in all_figures(run, aggregate(run), {}) if f.name == "perplexity-density-map")
    middles = [row["middle"] for row in figure.rows if "middle" in row and row["label"] == "replace"]
    assert len(middles) == 5
    assert middles[1] > middles[-1]
    assert all(row["share"] > 0 for row in figure.rows if "share" in row)


def test_densities_without_real_data_and_of_one_generation_are_drawn(tmp_path):
    shares = {f"perplexity_density.e{i / 10:.1f}": [[share]] for i, share in enumerate((0.0, 0.25, 0.75, 0.0))}
    run = load_run(small(tmp_path, shares))
    figures = [f for f in all_figures(run, aggregate(run), {}) if f.rows]
    assert [f.name for f in figures] == ["perplexity-density", "perplexity-density-map"]
    assert figures[0].lines == ()
    assert write_report(tmp_path).is_file()


def test_many_generations_are_thinned_and_it_is_said(tmp_path):
    rng = np.random.default_rng(0)
    shares = {f"perplexity_density.e{i / 10:.1f}": [rng.random(100).tolist()] * 8 for i in range(20)}
    run = load_run(small(tmp_path, shares, tuple(map(str, range(8)))))
    ridges, mapped = [f for f in all_figures(run, aggregate(run), {}) if f.section == "tails"]
    assert len({row["name"] for row in ridges.rows}) == 11
    assert any("11 of 100 generations" in note for note in ridges.notes)
    assert any("6 of 8 cells" in note for note in mapped.notes)
    assert len(ridges.rows) + len(mapped.rows) < 12_000


def test_the_bins_of_densities_are_left_out_of_the_table_of_all_numbers(page):
    assert "<td>perplexity_density" not in page
    assert "<td>own_perplexity</td>" in page


# Prompts


def test_one_prompt_is_shown_once_and_continued_by_each_generation(language, page):
    run = load_run(language)
    kept = run.pictures(0)
    assert len(kept.prompts) == 6
    assert page.count("One prompt, continued by each generation") == 1
    sheet = sheets({c: run.pictures(c.index) for c in run.cells}).text
    first = sheet[: sheet.index("<details>")]
    assert first.count("The prompt") == 1
    assert first.count('class="card-text"') == 2 * 4
    assert re.findall(r"<h4>(Generation \d)</h4>", first) == ["Generation 0", "Generation 1", "Generation 2", "Generation 3"]
    assert "5 more prompts" in sheet
    assert sheet.count("The prompt") == 6


def test_cells_with_and_without_a_prompt_have_sheets_of_their_own(language, tmp_path):
    folder = copy_of(language, tmp_path)
    note = json.loads((folder / "samples" / "cell-001.json").read_text())
    del note["prompts"]
    (folder / "samples" / "cell-001.json").write_text(json.dumps(note))
    run = load_run(folder)
    sheet = sheets({c: run.pictures(c.index) for c in run.cells}).text
    assert sheet.count('class="sheet sheet-text"') == 2
    assert sheet.count("<h4>Real</h4>") == 1
    assert "swatch c1" in sheet[sheet.index("<h4>Real</h4>") :]


@pytest.mark.parametrize("prompts", [None, [], ["", "  "], ["a b"] * 50])
def test_prompts_that_are_none_or_many(language, tmp_path, prompts):
    folder = copy_of(language, tmp_path)
    path = folder / "samples" / "cell-000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": prompts}))
    sheet = sheets({c: load_run(folder).pictures(0) for c in load_run(folder).cells[:1]}).text
    assert ("One prompt" in sheet) == bool(prompts and prompts[0])


# Pictures first


def test_pictures_are_the_first_thing_of_a_run_of_pictures(flowers):
    content = words_of_page(flowers)
    main = content[content.index("<main>") :]
    assert re.findall(r'<section id="([^"]+)"', main)[0] == "summary"
    assert main.index('class="strip"') < main.index('class="lede"')
    strip = main[main.index('class="strip"') : main.index("More of each")]
    assert re.findall(r"<h4>(?:<span>)?(\w+) ?(?:</span>)?(\d?)</h4>", strip) == [("Real", ""), *[("Generation", str(g)) for g in range(5)]]
    assert strip.count('class="crisp"') == 6
    assert "width:840px" in strip or "width:" in strip


def test_text_runs_start_with_the_summary(page):
    main = page[page.index("<main>") :]
    assert re.findall(r'<section id="([^"]+)"', main)[0] == "summary"
    assert 'class="strip"' not in main


def test_a_strip_has_a_column_for_each_cell_and_large_pictures_are_smoothed(tmp_path):
    folder = FOLDERS.flowers_folder(tmp_path, generations=2, replicates=1, side=64, n_cells=4)
    run = load_run(folder)
    strip = strips({c: run.pictures(c.index) for c in run.cells}).text
    assert "--cells:4" in strip
    assert strip.count('class="smooth"') == 4 * 4
    assert [label for label in ("replace", "keep 10 %", "fresh 40", "accumulate") if label in strip]


def test_the_card_of_a_run_of_pictures_shows_them_by_generation_before_any_word(flowers, language):
    content = words_of_page(flowers, language)
    cards = content[content.index('class="cards"') : content.index('class="run"')]
    assert cards.index('class="strip"') < cards.index('class="lede"')
    assert cards.count("<img") == 6
    assert ">1 fit</a> failed" in cards


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 1, 1), (3, 4, 5, 3), (2, 200, 160)])
def test_pictures_of_odd_shapes(tmp_path, shape):
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("d", "images", 5), "vae")
    FOLDERS.write_folder(tmp_path, "odd", [cell], [FOLDERS.tall(0, "fid", np.ones((1, 2)), np.arange(2))])
    FOLDERS.save_samples(tmp_path, 0, {"kind": "images"}, {"generation-00000": np.zeros(shape, np.uint8)})
    assert ('class="strip"' in words_of_page(tmp_path)) == (shape[0] > 0)


# Training


def test_fits_are_told_in_figures_and_words(language):
    run = load_run(language)
    figures = {f.name: f for f in all_figures(run, aggregate(run), {}) if f.section == "training"}
    assert list(figures) == ["training-loss", "training-epochs"]
    assert {row["part"] for row in figures["training-loss"].rows} == {"training", "validation"}
    rows = run.fits.filter((pl.col("cell") == 0) & (pl.col("generation") == 1))
    drawn = next(r for r in figures["training-loss"].rows if (r["label"], r["part"], r["generation"]) == ("replace", "training", 1))
    assert drawn["median"] == pytest.approx(rows["loss"].median(), rel=1e-5)
    told = " ".join(training_sentences(run))
    assert told.startswith("24 fits by gradient steps, of 3 to 5 epochs")
    assert f"{run.fits['stopped_early'].sum()} of 24 stopped early" in told


def test_a_failed_fit_is_named_on_top_of_the_page_and_in_the_summary(language, page):
    sentence = (
        "The training of generation 3, replicate 2 in “replace”, failed: the loss was NaN in step 12; its model is the last one with "
        "finite numbers."
    )
    assert failure_sentences(load_run(language)) == [sentence]
    assert summary(load_run(language))[-1] == sentence
    main = page[page.index("<main>") :]
    assert main.index('class="notice"') < main.index('class="lede"')
    assert main.count(sentence) == 2  # on top, and with the training


def test_failures_are_counted_where_their_table_is_lost_and_where_they_are_many(language, tmp_path):
    folder = copy_of(language, tmp_path)
    fits = pl.read_parquet(folder / "fits.parquet")
    fits.with_columns(failure=pl.lit("the loss\nwas NaN " + "x" * 999)).write_parquet(folder / "fits.parquet")
    sentences = failure_sentences(load_run(folder))
    assert sentences[-1] == "18 more fits failed."
    assert all("\n" not in s and len(s) < 500 for s in sentences)
    (folder / "fits.parquet").unlink()
    (folder / "manifest.json").write_text(json.dumps(json.loads((folder / "manifest.json").read_text()) | {"failures": 2}))
    assert failure_sentences(load_run(folder)) == ["2 fits failed: which, the run folder no longer says."]
    assert 'class="notice"' in words_of_page(folder)


def test_a_failed_base_model_and_a_cell_without_measurements_are_named(language, tmp_path):
    folder = copy_of(language, tmp_path)
    FOLDERS.fits_table(folder, 3, 1, 1, failures=((2, 0, 1, "no memory"),))
    fits = pl.read_parquet(folder / "fits.parquet")
    base = fits.head(1).with_columns(generation=pl.lit(-1, pl.Int64), failure=pl.lit("NaN"))
    pl.concat([base, fits]).write_parquet(folder / "fits.parquet")
    run = load_run(folder)
    assert [s.partition(", failed")[0] for s in failure_sentences(run)] == [
        "The training of the base model, replicate 0 in “replace”",
        "The training of generation 1, replicate 0 of cell 2",
    ]
    loss = next(f for f in all_figures(run, aggregate(run), {}) if f.name == "training-loss")
    assert {row["generation"] for row in loss.rows} == {0, 1}


def test_a_run_without_fits_has_no_training_section(tmp_path):
    folder = FOLDERS.zipf_folder(tmp_path, replicates=2, last=3)
    assert load_run(folder).fits.is_empty()
    assert 'id="training"' not in words_of_page(folder)


@pytest.mark.parametrize("cut", [0, 10, -20])
def test_a_truncated_table_of_fits_is_named(language, tmp_path, cut):
    folder = copy_of(language, tmp_path)
    path = folder / "fits.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunFolderError, match=r"fits\.parquet"):
        load_run(folder)


def test_a_table_of_fits_without_a_column_is_named(language, tmp_path):
    folder = copy_of(language, tmp_path)
    pl.read_parquet(folder / "fits.parquet").drop("failure").write_parquet(folder / "fits.parquet")
    with pytest.raises(RunFolderError, match="lacks the column failure"):
        load_run(folder)


def test_losses_that_are_all_missing_leave_the_words(language, tmp_path):
    folder = copy_of(language, tmp_path)
    fits = pl.read_parquet(folder / "fits.parquet")
    fits.with_columns(loss=pl.lit(None), validation=pl.lit(None), epochs=pl.lit(1)).write_parquet(folder / "fits.parquet")
    assert 'id="training"' in words_of_page(folder)
    run = load_run(folder)
    assert not [f for f in all_figures(run, aggregate(run), {}) if f.section == "training"]


# Parts of drift


PARTS = {
    "drift_parts.truncation": [[-0.3, -0.3], [0.2, 0.2]],
    "drift_parts.sampling": [[-0.05, -0.05], [-0.1, -0.1]],
    "drift_parts.fitting": [[-0.1, -0.2], [0.0, -0.1]],
    "word_diversity": [[3.9, 3.35], [4.0, 4.0]],
}


def test_the_parts_of_drift_are_added_up_and_told(tmp_path):
    run = load_run(small(tmp_path, PARTS, ("0.7", "1.3")))
    curves = aggregate(run)
    family = next(f for f in group_families(curves["metric"].unique().to_list()) if f.style == "parts")
    last = parts_of(curves, run.cells, family).filter((pl.col("cell") == 0) & (pl.col("generation") == 1))
    assert dict(last.select("part", "added").iter_rows()) == pytest.approx(
        {"truncation by decoding": -0.6, "sampling noise (theory)": -0.1, "fitting error": -0.3}
    )
    # All of it trains on the sample before it: 3.35 = 3.9 - .3 - .05 - .2, and 3.35 - .3 - .05 - (3.9 + .1) = -1, the sum of the parts.
    measured = measured_change(curves, run.cells, family).filter((pl.col("label") == "temperature 0.7") & (pl.col("generation") == 1))
    assert measured["measured"].to_list() == pytest.approx([-1.0])
    sentence = drift_sentence(run, curves)
    assert "in “temperature 0.7” 1 are lost, 60\u00a0% of it to decoding and 40\u00a0% to recursion" in sentence
    assert "in “temperature 1.3” 0.1 are gained: decoding adds 0.4, recursion takes 0.3 (sampling noise (theory) takes 0.2" in sentence
    assert sentence in summary(run)
    names = [f.name for f in all_figures(run, curves, {})]
    assert names.index("drift-parts-added") == names.index("drift-parts") + 1


def test_parts_with_generations_left_out_are_not_added_up(tmp_path):
    run = load_run(small(tmp_path, PARTS, ("0.7", "1.3")))
    skipping = aggregate(run).with_columns(generation=(pl.col("generation") * 5).cast(pl.Int32))
    assert "the generations that were measured" in drift_sentence(run, skipping)
    assert "drift-parts-added" not in [f.name for f in all_figures(run, skipping, {})]


def test_bars_below_zero_reach_their_sum(tmp_path):
    run = load_run(small(tmp_path, PARTS, ("0.7", "1.3")))
    figure = next(f for f in all_figures(run, aggregate(run), {}) if f.name == "drift-parts")
    rows = [r for r in figure.rows if r["label"] == "temperature 1.3" and r["generation"] == 1]
    assert sum(r["value"] for r in rows if "value" in r) == pytest.approx(next(r["total"] for r in rows if "total" in r))
    assert len(figure.legend) == 3


# Sentences and tables


def test_the_generation_from_which_pictures_are_no_longer_recognised(tmp_path):
    run = load_run(small(tmp_path, {"recognised": [[1.0, 0.4, 0.6, 0.3, 0.2], [1.0, 1.0, 1.0, 0.9, 0.9]]}, ("a", "b"), kind="images"))
    assert findings(run, aggregate(run)) == [
        "Fewer than half of the pictures are recognised for what they should show: in “temperature a” in generation 1 and from "
        "generation 3 on; in “temperature b” at no generation."
    ]


@pytest.mark.parametrize(
    ("recognised", "when"),
    [
        ([0.2, 0.4, 0.6, 0.5], "in generations 0 to 1"),  # healed
        ([0.2, 0.4, 0.3, 0.1], "from generation 0 on"),
        ([0.9, 0.4, 0.6, 0.7], "in generation 1"),
        ([0.9, 0.9, 0.6, 0.4], "from generation 3 on"),
    ],
)
def test_pictures_that_are_recognised_again(tmp_path, recognised, when):
    run = load_run(small(tmp_path, {"recognised": [recognised]}, ("a",), kind="images"))
    assert findings(run, aggregate(run)) == [f"Fewer than half of the pictures are recognised for what they should show {when}."]


def test_the_share_of_text_that_is_too_probable(language):
    run = load_run(language)
    found = next(s for s in findings(run, aggregate(run)) if s.startswith("Sequences"))
    assert found.count("generation 0: ") == 4


def test_tables_by_generation_have_the_t_interval_over_replicates(language, page):
    run = load_run(language)
    curves = aggregate(run)
    assert tabled_metrics(curves) == ("own_perplexity", "perplexity", "low_perplexity_share", "high_perplexity_share")
    row = curves.filter((pl.col("metric") == "perplexity") & (pl.col("cell") == 1) & (pl.col("generation") == 2)).row(0, named=True)
    chosen = (pl.col("metric") == "perplexity") & (pl.col("cell") == 1) & (pl.col("generation") == 2)
    values = run.measurements.filter(chosen)["value"].to_numpy()
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert interval_half(row) == pytest.approx((high - low) / 2)
    mean, half = with_interval(row["mean"], interval_half(row))
    assert f"{mean} <small>{half}</small>" in generation_table(run, curves, "perplexity").text
    assert page.count('class="by-generation"') == 4


def test_many_cells_are_rows_of_a_table_and_many_generations_have_none(tmp_path):
    run = load_run(small(tmp_path / "a", {"perplexity": [[20.0, 21.0]] * 8}, tuple(map(str, range(8)))))
    table = generation_table(run, aggregate(run), "perplexity").text
    assert table.count('scope="row"') == 8
    assert "±" not in table
    run = load_run(small(tmp_path / "b", {"perplexity": [list(range(1, 20))]}))
    assert tabled_metrics(aggregate(run)) == ()


@pytest.mark.parametrize(
    ("mean", "half", "share", "shown"),
    [
        (1234.5, 56.7, False, ("1,234", "±\u00a057")),
        (math.inf, 1.0, False, ("∞", "±\u00a01")),
        (2.0, math.nan, False, ("2", "")),
        (-0.5, 0.01, False, ("−0.500", "±\u00a00.010")),
        (1.0, 0.0, True, ("100\u00a0%", "±\u00a00")),
        (5e9, 3e8, False, ("5\u00a0×\u00a010⁹", "±\u00a03\u00a0×\u00a010⁸")),
    ],
)
def test_intervals_are_written_with_as_many_digits_as_they_warrant(mean, half, share, shown):
    assert with_interval(mean, half, share=share) == shown


@pytest.mark.parametrize("kind", ["vae", "gan", "diffusion", "gpt", "causal_lm"])
def test_neural_families_have_names(kind):
    assert kind not in learner_noun({"kind": kind}) or kind == "diffusion"


# Hostile content


class Handlers(HTMLParser):
    """Scripts and attributes that could run one."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))


def test_prompts_failures_and_names_never_become_markup(language, tmp_path):
    folder = copy_of(language, tmp_path)
    note = json.loads((folder / "samples" / "cell-000.json").read_text())
    note |= {"prompts": [EVIL] * 6, "generations": {g: [EVIL] * 6 for g in note["generations"]}}
    (folder / "samples" / "cell-000.json").write_text(json.dumps(note))
    fits = pl.read_parquet(folder / "fits.parquet")
    fits.with_columns(failure=pl.lit(EVIL)).write_parquet(folder / "fits.parquet")
    bad = pl.DataFrame(
        {"cell": [0] * 3, "replicate": [0] * 3, "generation": [0] * 3, "metric": [f"{EVIL}_density.e{i}.0" for i in range(3)]}
    )
    parts = bad.with_columns(metric=pl.Series([f"{EVIL}_parts.{EVIL}{i}" for i in range(3)]))
    extra = pl.concat([bad, parts]).with_columns(pl.col("cell", "replicate", "generation").cast(pl.Int32), value=pl.lit(0.3))
    measured = pl.read_parquet(folder / "measurements.parquet").filter(pl.col("metric") == "perplexity")
    pl.concat([measured, extra], how="diagonal").write_parquet(folder / "measurements.parquet")
    parsed = Handlers()
    parsed.feed(write_report(folder).read_text(encoding="utf-8"))
    assert parsed.scripts.count(None) == 2
    assert set(parsed.scripts) == {None, "application/json"}
    assert parsed.handlers == []


def test_densities_of_nothing_and_of_infinities_are_survived(tmp_path):
    shares = {f"x_density.e{i}.0": [[value, 0.0]] for i, value in enumerate((0.0, math.nan, 0.0))}
    shares["y_density.e0.0"] = shares["y_density.e1.0"] = shares["y_density.real.e0.0"] = [[0.0, 0.0]]
    assert write_report(small(tmp_path, shares | {"perplexity": [[math.inf, 3.0]]})).is_file()
