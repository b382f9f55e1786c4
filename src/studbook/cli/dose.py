"""``studbook dose``: how many fresh real records a generation keep a wanted share of the diversity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json

if TYPE_CHECKING:
    from studbook.planning import Dose, Outlook, ScreenedDose, ScreenRates
    from studbook.theory.laws import CategoricalLaw


def dose_command(
    metric: Annotated[str, typer.Option(help="What to keep: variance, heterozygosity or support.")],
    keep: Annotated[float, typer.Option(help="Share to keep in expectation, above 0 and at most 1.")],
    samples: Annotated[int, typer.Option(help="Records a generation, real and generated together.")],
    generations: Annotated[int, typer.Option(help="Generations after generation 0.")],
    probabilities: Annotated[Path | None, typer.Option(help="File of probabilities or counts of the states, one a line.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data source whose frequencies to take: a name of `studbook data list`, or a file.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Parameter of the data source, for example data.states=50.")
    ] = None,
    ddof: Annotated[int, typer.Option(help="Divisor samples - ddof of the fitted variance: 0 or 1.")] = 0,
    confidence: Annotated[float, typer.Option(help="Confidence of a simulation's intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Root seed of a simulation.")] = 0,
    screen: Annotated[Path | None, typer.Option(help="Signed calibration of the screen in front of the training set.")] = None,
    tpr: Annotated[float | None, typer.Option(help="Instead: its true positive rate.")] = None,
    fpr: Annotated[float | None, typer.Option(help="And its false positive rate.")] = None,
    contamination: Annotated[float | None, typer.Option(help="Share of generated records in what is screened.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Say how many fresh real records a generation keep a share of the original's diversity, and what a screened corpus has of them."""
    from dataclasses import asdict
    from typing import cast

    from rich.console import Console

    from studbook.planning import DoseMetric, dose, screened_dose

    kind, law, rates = cast("DoseMetric", metric), _law(probabilities, data, set_ or []), _rates(screen, tpr, fpr, contamination)
    with Console(stderr=True).status("searching the dose"):
        if rates is None or contamination is None:
            answer = dose(kind, keep, samples, generations, law=law, seed=seed, confidence=confidence, ddof=ddof)
            screened = None
        else:
            given: dict[str, Any] = {"law": law, "seed": seed, "confidence": confidence, "ddof": ddof}
            screened = screened_dose(kind, keep, samples, generations, contamination=contamination, rates=rates, **given)
            answer = screened.dose
    if format_ is Format.JSON:
        show_json(asdict(screened or answer))
        return
    _show(answer, ddof)
    if screened is not None:
        _show_screened(screened)


def _rates(screen: Path | None, tpr: float | None, fpr: float | None, contamination: float | None) -> ScreenRates | None:
    from studbook.errors import ConfigError
    from studbook.planning import ScreenRates, read_screen

    if screen is None and tpr is None and fpr is None and contamination is None:
        return None
    if contamination is None:
        raise ConfigError("a screen was given without --contamination", hint="studbook corpus estimate measures it; 0.3 is three of ten")
    if screen is not None and (tpr is not None or fpr is not None):
        raise ConfigError("both --screen and --tpr or --fpr were given, expected one of them")
    if screen is not None:
        return read_screen(screen)
    if tpr is None or fpr is None:
        raise ConfigError("--contamination needs the screen's error rates", hint="give --screen CALIBRATION.json, or --tpr and --fpr")
    return ScreenRates.stated(tpr, fpr)


def _law(probabilities: Path | None, data: str | None, settings: list[str]) -> CategoricalLaw | None:
    from studbook.errors import ConfigError

    if probabilities is not None and data is not None:
        raise ConfigError("both --probabilities and --data were given, expected at most one")
    if settings and data is None:
        raise ConfigError("--set was given without --data", hint="it sets a parameter of the data source")
    if probabilities is not None:
        from studbook.planning import read_probabilities

        return read_probabilities(probabilities)
    if data is not None:
        from studbook.data import open_source, unigram_probabilities

        return unigram_probabilities(open_source(data, **_parameters(settings)).load())
    return None


def _parameters(settings: list[str]) -> dict[str, object]:
    """``data.states=50`` or ``states=50``; a value that isn't TOML is text."""
    import tomllib

    from studbook.errors import ConfigError

    found: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set is {setting!r}, expected KEY=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found[key.strip().removeprefix("data.")] = value
    return found


def _show(answer: Dose, ddof: int) -> None:
    from rich.console import Console

    of = "the states of generation 0" if answer.metric == "support" else f"the original's {answer.metric}"
    records = "record" if answer.fresh == 1 else "records"
    lines = [
        f"{answer.fresh:,} fresh real {records} a generation among {answer.samples:,} ({_percent(answer.fraction)}) "
        f"keep {_percent(answer.kept)} of {of} after {answer.generations:,} generations.",
        f"Without real data {_percent(answer.kept_without)} would remain.",
        f"Method: {_method(answer)}.",
    ]
    if answer.metric == "support":
        lines.append(f"That is {_percent(answer.kept_of_law)} of all states of the law.")
    lines.append(_golden(answer))
    if ddof:
        lines.append("With ddof = 1 the expected variance never falls, whatever the dose, while the typical run still collapses.")
    Console(soft_wrap=True, highlight=True).print("\n".join(lines), markup=False)


def _show_screened(screened: ScreenedDose) -> None:
    from rich.console import Console

    dose, rates = screened.dose, screened.rates
    lines = [f"Of the corpus {_percent(screened.contamination)} are generated."]
    rows = [("As it comes", screened.unscreened), ("Behind the screen", screened.point)]
    if rates.confidence is not None:
        rows.append((f"At the worse ends of its {_percent(rates.confidence)} intervals", screened.pessimistic))
    for name, outlook in rows:
        errors = "" if outlook is screened.unscreened else f" (TPR {_percent(outlook.tpr)}, FPR {_percent(outlook.fpr)})"
        lines.append(
            f"{name}{errors} {_percent(outlook.residual)} of a training set are generated: "
            f"{outlook.real:,} real records of {dose.samples:,} keep {_percent(outlook.kept)}. {_advice(outlook)}"
        )
    Console(soft_wrap=True, highlight=True).print("\n".join(lines), markup=False)


def _advice(outlook: Outlook) -> str:
    if outlook.enough:
        return f"That is enough: no verified real data are needed; {outlook.candidates:,} records to screen a generation."
    added = f"{outlook.verified:,} verified real records have to be in every generation"
    return f"That is too little: {added}, and {outlook.candidates:,} records to screen for the rest."


def _golden(answer: Dose) -> str:
    weight = f"Golden-ratio weight of the real records: {_percent(answer.golden_weight)}"
    if not answer.fresh:
        return f"{weight}, as there are none; effective sample size: – (only generation 0 has real records)."
    effective = f"effective sample size: {answer.effective_sample_size:,.0f} real records"
    return f"{weight} (pooled, they have {_percent(answer.fraction)}); {effective}."


def _method(answer: Dose) -> str:
    if answer.method == "theory":
        return "theory"
    low, high = answer.interval
    least, most = answer.fresh_interval
    share = f"{_percent(low)} to {_percent(high)}"
    settled = f"dose between {least:,} and {most:,}" + (", not settled further" if least < most else "")
    exactness = f"; {answer.approximation}" if answer.approximation else "; exact in law"
    return f"simulation, {answer.replicates:,} replicates; kept between {share}, {settled}{exactness}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.4g} %"
