"""``studbook dose``: how many fresh real records a generation keep a wanted share of the diversity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studbook.cli.rendering import Format, show_json

if TYPE_CHECKING:
    from studbook.planning import Dose
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
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Say how many fresh real records a generation keep a share of the original's diversity."""
    from dataclasses import asdict
    from typing import cast

    from rich.console import Console

    from studbook.planning import DoseMetric, dose

    law = _law(probabilities, data, set_ or [])
    with Console(stderr=True).status("searching the dose"):
        answer = dose(cast("DoseMetric", metric), keep, samples, generations, law=law, seed=seed, confidence=confidence, ddof=ddof)
    show_json(asdict(answer)) if format_ is Format.JSON else _show(answer, ddof)


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
