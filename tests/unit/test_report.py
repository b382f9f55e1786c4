"""The report from a stored run: reading, aggregation, tables, sentences, charts and files."""

from __future__ import annotations

import json
import math
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest

from studbook.errors import ConfigError, MetricError
from studbook.report import chart, load_run, summary, table, write_report
from studbook.report.aggregate import aggregate, judge_z, thin
from studbook.report.curves import generation_axis, make_panel
from studbook.report.families import dose_keys
from studbook.report.figures import all_figures
from studbook.report.page import vega_bundle
from studbook.report.specs import page_spec, static_spec

FOLDERS = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "browser" / "run_folders.py")))


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory):
    return FOLDERS.gaussian_folder(tmp_path_factory.mktemp("gaussian"), replicates=300, last=100, n=100)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return FOLDERS.text_folder(tmp_path_factory.mktemp("text"), generations=4, replicates=3, n_words=8000)


@pytest.fixture(scope="module")
def migrants(tmp_path_factory):
    return FOLDERS.migrants_folder(tmp_path_factory.mktemp("migrants"), replicates=40, last=40)


def test_a_run_knows_its_cells_and_its_pictures(text):
    run = load_run(text)
    assert [c.label for c in run.cells] == ["replace", "keep 10 %", "fresh 12", "accumulate"]
    assert (run.n_replicates, run.last_generation) == (3, 4)
    pictures = run.pictures(0)
    assert list(pictures.texts) == [0, 1, 2, 4]
    assert pictures.generations.keys() == pictures.texts.keys()
    assert run.pictures(99) is None


def test_a_run_without_theory_is_read(text, tmp_path):
    assert load_run(text).theory.is_empty()


def test_cells_with_one_label_are_told_apart(gaussian, tmp_path):
    manifest = json.loads((gaussian / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell |= {"label": "same", "keys": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "measurements.parquet").write_bytes((gaussian / "measurements.parquet").read_bytes())
    assert [c.label for c in load_run(tmp_path).cells] == ["same #0", "same #1"]


def test_labels_are_the_grid_values_in_short(gaussian, tmp_path):
    (tmp_path / "measurements.parquet").write_bytes((gaussian / "measurements.parquet").read_bytes())
    mixes = [{"kind": "weighted", "fresh": 20, "weight": "golden"}, {"kind": "keep", "share": 0.25}]
    manifest = json.loads((gaussian / "manifest.json").read_text())
    for cell, mix in zip(manifest["cells"], mixes, strict=True):
        cell |= {"label": "long", "keys": {"mix": "long", "study.samples": "50"}, "mix": mix}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert [c.label for c in load_run(tmp_path).cells] == ["weighted golden, fresh 20, samples 50", "keep 25 %, samples 50"]


def test_many_cells_are_told_by_the_number_that_matters_most(migrants):
    run = load_run(migrants)
    last = run.measurements.filter(pl.col("generation") == 40).group_by("cell").agg(pl.col("value").median()).sort("cell")["value"]
    assert summary(run)[1].count(" with fresh ") == 6
    assert f"{min(last[5], last[11]):.3g}" in summary(run)[1]


def test_aggregation_agrees_with_numpy(gaussian):
    run = load_run(gaussian)
    row = aggregate(run).filter((pl.col("metric") == "std") & (pl.col("cell") == 1) & (pl.col("generation") == 50)).row(0, named=True)
    values = run.measurements.filter((pl.col("metric") == "std") & (pl.col("cell") == 1) & (pl.col("generation") == 50))["value"].to_numpy()
    stderr = values.std(ddof=1) / math.sqrt(len(values))
    assert row["median"] == pytest.approx(np.median(values))
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))
    assert row["z"] == pytest.approx((values.mean() - row["theory"]) / stderr)


def test_with_few_replicates_the_band_is_the_range(text):
    run = load_run(text)
    values = run.measurements.filter((pl.col("metric") == "perplexity") & (pl.col("cell") == 0) & (pl.col("generation") == 4))["value"]
    row = aggregate(run).filter((pl.col("metric") == "perplexity") & (pl.col("cell") == 0)).row(-1, named=True)
    assert (row["low"], row["high"]) == (values.min(), values.max())


def test_the_table_has_a_row_for_each_cell_and_metric(gaussian):
    rows = table(load_run(gaussian))
    assert rows.select("cell", "metric").rows() == [(f"ddof {d}", m) for d in (0, 1) for m in ("std", "w2_squared")]
    assert rows["last_generation"].unique().to_list() == [100]
    assert (rows["last_q05"] < rows["last_median"]).all()
    assert rows["theory"].null_count() == 0


def test_theory_that_is_right_agrees_and_theory_that_is_wrong_does_not(gaussian, tmp_path):
    """Seeded; the limit is exceeded by right theory with a probability below 5 % (Bonferroni), once for this seed."""
    assert judge_z(aggregate(load_run(gaussian)).filter(pl.col("metric") == "std")).agrees
    for name in ("manifest.json", "measurements.parquet"):
        (tmp_path / name).write_bytes((gaussian / name).read_bytes())
    wrong = pl.read_parquet(gaussian / "theory.parquet").with_columns(pl.col("mean") * 1.1)
    wrong.write_parquet(tmp_path / "theory.parquet")
    verdict = judge_z(aggregate(load_run(tmp_path)).filter(pl.col("metric") == "std"))
    assert not verdict.agrees
    assert verdict.n == 22


def test_a_mean_that_hangs_on_few_replicates_is_not_judged(tmp_path):
    values = np.ones((50, 1))
    values[0] = 1e6
    values[:, 0] += np.linspace(0, 0.1, 50)
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("normal", "numbers", 9), "gaussian")
    theory = FOLDERS.theory_rows(0, "variance", np.array([3]), np.array([2.0]), "f", "s")
    FOLDERS.write_folder(tmp_path, "heavy", [cell], [FOLDERS.tall(0, "variance", values, np.array([3]))], theory)
    curves = aggregate(load_run(tmp_path))
    assert curves["z"].is_not_null().all()
    assert judge_z(curves) is None


def test_replicates_that_agree_have_no_z(tmp_path):
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("normal", "numbers", 9), "gaussian")
    theory = FOLDERS.theory_rows(0, "variance", np.array([0]), np.array([2.0]), "f", "s")
    FOLDERS.write_folder(tmp_path, "same", [cell], [FOLDERS.tall(0, "variance", np.full((5, 1), 0.3), np.array([0]))], theory)
    assert aggregate(load_run(tmp_path))["z"].to_list() == [None]


def test_thinning_keeps_both_ends(gaussian):
    curve = aggregate(load_run(gaussian)).filter((pl.col("metric") == "std") & (pl.col("cell") == 0))
    thinned = thin(curve, 4)
    assert thinned["generation"].to_list() == [0, 30, 70, 100]
    assert thin(curve, 99).height == curve.height


def test_the_summary_tells_the_figures_of_the_data(text):
    run = load_run(text)
    last = run.measurements.filter((pl.col("metric") == "types_share") & (pl.col("generation") == 4))
    kept = [round(100 * last.filter(pl.col("cell") == c)["value"].median()) for c in range(4)]
    sentences = summary(run)
    found = [int(n) for n in re.findall(r"(\d+)\u00a0%(?! of the original)(?=[ ;.])(?![^(]*\))", sentences[1])]
    assert "Trained only on its own output, the model kept" in sentences[1]
    assert found == kept
    assert "range of the 3 replicates" in sentences[-1]


def test_one_replicate_is_said_to_be_one(tmp_path):
    FOLDERS.zipf_folder(tmp_path, replicates=1, last=8)
    sentences = summary(load_run(tmp_path))
    assert "one replicate" in sentences[-1]
    assert not any("median" in s for s in sentences)


def test_an_unfinished_run_says_so(gaussian, tmp_path):
    manifest = json.loads((gaussian / "manifest.json").read_text()) | {"status": "interrupted", "units": {"total": 9, "done": 2}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "measurements.parquet").write_bytes((gaussian / "measurements.parquet").read_bytes())
    assert "interrupted (2 of 9 units)" in summary(load_run(tmp_path))[-1]


def test_the_theory_sentence_holds_the_mean_and_its_interval(gaussian):
    sentence = next(s for s in summary(load_run(gaussian)) if s.startswith("Theory"))
    assert "95 % bootstrap interval" in sentence
    assert "“ddof 0”" in sentence


def test_every_chart_compiles_and_holds_few_points(gaussian, text, migrants):
    import vl_convert

    for folder in (gaussian, text, migrants):
        run = load_run(folder)
        pictures = {c: p for c in run.cells if (p := run.pictures(c.index))}
        for figure in all_figures(run, aggregate(run), pictures):
            assert 0 < len(figure.rows) <= 6000
            assert "<path" in vl_convert.vegalite_to_svg(static_spec(figure))
            assert figure.title
            assert figure.description


def test_the_z_panel_has_its_guides_in_every_form(gaussian):
    run = load_run(gaussian)
    figure = next(f for f in all_figures(run, aggregate(run), {}) if f.name == "std")
    for document in (static_spec(figure), page_spec(static_spec(figure))["spec"], chart(run, "std").to_dict()):
        levels = {row["z"] for name, rows in document["datasets"].items() if name != "rows" for row in rows}
        assert levels == {-2, 0, 2}


def test_families_share_a_chart(text):
    run = load_run(text)
    names = [f.name for f in all_figures(run, aggregate(run), {})]
    assert names == ["types-share", "hapax-survival", "perplexity", "own-perplexity", "block-perplexity"]


def test_many_cells_get_panels_of_their_own_and_numeric_keys_a_dose_chart(migrants):
    run = load_run(migrants)
    panel = make_panel(aggregate(run), run.cells, "variance")
    assert panel.facets
    assert panel.has_z
    assert dose_keys(run.cells) == ("mix.fresh",)
    dose = [f for f in all_figures(run, aggregate(run), {}) if f.section == "dose"]
    assert [f.legend[0][0] for f in dose] == ["samples 50"]
    assert {row["dose"] for row in dose[0].rows} == {0, 1, 2, 5, 10, 25}


def test_the_value_axis_is_logarithmic_where_values_span_two_orders(gaussian, text):
    run = load_run(gaussian)
    assert make_panel(aggregate(run), run.cells, "w2_squared").log
    assert not make_panel(aggregate(run), run.cells, "std").log


def test_a_chart_of_one_cell_and_of_an_unknown_metric(gaussian):
    run = load_run(gaussian)
    document = chart(run, "std", cell=1).to_dict()
    assert {row["label"] for row in document["datasets"]["rows"]} == {"ddof 1"}
    with pytest.raises(MetricError, match="no metric 'stdd'"):
        chart(run, "stdd")
    with pytest.raises(MetricError, match="no cell 7"):
        chart(run, "std", cell=7)


def test_infinite_values_leave_a_gap(tmp_path):
    values = np.array([[10.0, 20.0, np.inf], [11.0, 19.0, 30.0]])
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("t", "text", 9), "ngram")
    FOLDERS.write_folder(tmp_path, "inf", [cell], [FOLDERS.tall(0, "perplexity", values, np.arange(3))])
    run = load_run(tmp_path)
    figure = next(all_figures(run, aggregate(run), {}))
    assert "mean" not in figure.rows[-1]
    json.dumps(page_spec(static_spec(figure)), allow_nan=False)
    assert "∞" in summary(run)[1]


def test_a_report_is_one_file_with_charts_beside_it(gaussian):
    page = write_report(gaussian)
    content = page.read_text(encoding="utf-8")
    assert page == gaussian / "report" / "index.html"
    assert page.stat().st_size < 4_000_000
    names = {p.name for p in (gaussian / "report" / "charts").iterdir()}
    assert names == {f"{n}.{e}" for n in ("samples", "std", "w2-squared") for e in ("svg", "png")}
    assert (gaussian / "report" / "charts" / "std.png").read_bytes().startswith(b"\x89PNG")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', content)
    assert content.index('id="summary"') < content.index('id="samples"') < content.index('id="metrics"') < content.index('id="provenance"')
    assert "E σₙ = (q·c₄)ⁿ⁺¹" in content
    assert not list((gaussian / "report").rglob(".*"))


def test_writing_again_replaces_the_report(gaussian):
    first = write_report(gaussian).read_bytes()
    assert write_report(gaussian).read_bytes() == first


class Anchors(HTMLParser):
    """The ids, the links and the headings of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.levels: list[int] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") and tag != "clippath" else []
        self.links += [given["href"]] if tag == "a" else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []


@pytest.fixture(scope="module")
def combined(gaussian, text, tmp_path_factory):
    digits = FOLDERS.digits_folder(tmp_path_factory.mktemp("digits run"), generations=3, replicates=2, n=100)
    return write_report(text, digits, gaussian, out=tmp_path_factory.mktemp("combined") / "report")


def test_several_runs_share_a_page_and_its_scripts(combined):
    content = combined.read_text(encoding="utf-8")
    assert combined.stat().st_size < 4_000_000
    assert content.count(vega_bundle()) == 1
    assert "<title>demo-text, demo-digits and oreilly – studbook report</title>" in content
    cards = content[content.index('class="cards"') : content.index('class="run"')]
    assert re.findall(r'<h3><a href="#([^"]+)"', cards) == ["demo-text", "demo-digits", "oreilly"]
    assert "N-gram model of python-docs" in cards
    assert "Kernel density estimate of digits" in cards
    assert cards.count("<polyline") == 4 + 4 + 2
    assert cards.count('class="glimpse"') == 2


def test_anchors_are_unique_and_every_link_leads_somewhere(combined):
    page = Anchors(combined)
    assert len(set(page.ids)) == len(page.ids)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert len(inside) > 18
    assert set(inside) <= set(page.ids)
    outside = [unquote(link) for link in page.links if not link.startswith("#")]
    assert outside
    assert all((combined.parent / link).is_file() for link in outside)
    assert page.levels.count(1) == 1
    assert sum(level == 2 for level in page.levels) == 1 + 3


def test_runs_of_one_name_are_told_apart(text, tmp_path):
    page = Anchors(write_report(text, text, out=tmp_path))
    assert len(set(page.ids)) == len(page.ids)
    assert {"demo-text--1--summary", "demo-text--2--summary"} <= set(page.ids)
    assert (tmp_path / "charts" / "demo-text--2--perplexity.svg").is_file()


def test_several_runs_need_a_folder_and_none_are_refused(gaussian, text):
    with pytest.raises(ConfigError, match="needs a folder"):
        write_report(gaussian, text)
    with pytest.raises(ConfigError, match="no run folder"):
        write_report()


def test_one_run_can_be_written_elsewhere(gaussian, tmp_path):
    page = write_report(gaussian, out=tmp_path / "away")
    assert page == tmp_path / "away" / "index.html"
    anchors = Anchors(page)
    assert {"summary", "figure-std"} <= set(anchors.ids)
    assert all((page.parent / unquote(link)).is_file() for link in anchors.links if not link.startswith("#"))


def test_theory_is_not_judged_by_few_replicates(gaussian, tmp_path):
    (tmp_path / "manifest.json").write_bytes((gaussian / "manifest.json").read_bytes())
    (tmp_path / "theory.parquet").write_bytes((gaussian / "theory.parquet").read_bytes())
    pl.read_parquet(gaussian / "measurements.parquet").filter(pl.col("replicate") < 3).write_parquet(tmp_path / "measurements.parquet")
    run = load_run(tmp_path)
    assert judge_z(aggregate(run)) is None
    assert sum("3 replicates are too few" in sentence for sentence in summary(run)) == 1
    assert not any("standard errors" in sentence for sentence in summary(run))
    assert not make_panel(aggregate(run), run.cells, "std").has_z


def test_classes_that_are_left_are_counted_and_their_entropy_is_no_class(tmp_path):
    """Two of three classes are left in one replicate, one in the other."""
    shares = {"0": [[0.5], [1.0]], "1": [[0.5], [0.0]], "2": [[0.0], [0.0]], "entropy": [[0.69], [0.0]]}
    rows = [FOLDERS.tall(0, f"class_shares.{name}", np.array(values), np.array([3])) for name, values in shares.items()]
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("digits", "images", 9), "kde")
    FOLDERS.write_folder(tmp_path, "classes", [cell], rows)
    run = load_run(tmp_path)
    kept = aggregate(run).filter(pl.col("metric") == "classes_kept").row(0, named=True)
    assert (kept["low"], kept["median"], kept["high"]) == pytest.approx((1 / 3, 1 / 2, 2 / 3))
    assert "still made 50\u00a0% of the classes" in summary(run)[1]
    figures = {f.name: f for f in all_figures(run, aggregate(run), {})}
    assert [name for name, _ in figures["class-shares"].legend] == ["0", "1", "2"]
    assert "class-shares.entropy" in figures


def test_a_metric_that_starts_at_rounding_errors_is_drawn_on_a_linear_axis(tmp_path):
    values = np.array([[1e-29, 2.0, 11.0], [2e-29, 3.0, 12.0]])
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("t", "numbers", 9), "gaussian")
    rows = [FOLDERS.tall(0, name, v, np.arange(3)) for name, v in (("drift", values), ("variance", values[:, ::-1]))]
    FOLDERS.write_folder(tmp_path, "drift", [cell], rows)
    run = load_run(tmp_path)
    assert not make_panel(aggregate(run), run.cells, "drift").log
    assert make_panel(aggregate(run), run.cells, "variance").log


@pytest.mark.parametrize("last", [1, 2, 5, 8])
def test_few_generations_are_each_named_once(last):
    frame = pl.DataFrame({"generation": range(last + 1)})
    assert generation_axis(frame).to_dict()["axis"]["values"] == list(range(last + 1))


def test_many_generations_are_named_at_round_numbers():
    axis = generation_axis(pl.DataFrame({"generation": [0, 1000]})).to_dict()["axis"]
    assert axis["tickCount"] == 8 and "values" not in axis
