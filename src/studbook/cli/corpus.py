"""``studbook corpus``: how much of a corpus was generated, a mix of it to train on, and which records a person should look at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.corpus_screen import check_command, screen_command
from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import printable

if TYPE_CHECKING:
    from studbook.provenance import SigningKey
    from studbook.screening.estimate import Estimate
    from studbook.screening.review import Queue
    from studbook.screening.scores import Located

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command("screen")(screen_command)
app.command("check")(check_command)

Folder = Annotated[Path, typer.Argument(help="Folder that `studbook corpus screen` wrote.")]
Calibrations = Annotated[list[Path] | None, typer.Option("--calibration", help="Signed calibration of a witness; again for more.")]
Confidence = Annotated[float, typer.Option(help="Confidence of the interval.")]
_MOST_SHOWN = 2000


@app.callback()
def _group() -> None:
    """What in a corpus was generated, and what to train on."""


@app.command("estimate")
def estimate_command(
    folder: Folder,
    calibration: Calibrations = None,
    confidence: Confidence = 0.95,
    half_width: Annotated[float | None, typer.Option(help="Half-width to plan calibration for, for example 0.005.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Parquet of the columns score and label (generated, human, or none for the corpus): second opinion.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Estimate the generated share of a screened corpus, with an interval."""
    from rich.console import Console

    from studbook.screening.estimate import estimate_corpus

    with Console(stderr=True).status("counting"):
        found = estimate_corpus(folder, calibrations=calibration or (), confidence=confidence, half_width=half_width)
        second = _second_opinion(scores, found) if scores is not None else []
    if format_ is Format.JSON:
        show_json(asdict(found) | {"second_opinion": second})
        return
    _show_estimate(found)
    if second:
        show_table(second, "By all scores (QuaPy), of the records that were scored")


def _second_opinion(path: Path, found: Estimate) -> list[dict[str, Any]]:
    from studbook.screening.quantify import quantify, read_scores

    labelled, corpus = read_scores(path)
    return [
        {"method": each.method, "share": each.share, "lower": each.lower, "upper": each.upper,
         "agrees": each.upper >= found.lower and each.lower <= found.upper}
        for each in quantify(corpus, labelled, confidence=found.confidence)
    ]  # fmt: skip


def _show_estimate(found: Estimate) -> None:
    from rich.console import Console

    what = "generated" if found.complete else "found to be generated"
    lines = [
        f"{_percent(found.share)} of {found.records:,} records are {what}, {100 * found.confidence:.4g} % interval "
        f"{_percent(found.lower)} to {_percent(found.upper)}.",
        f"At least {_percent(found.certain)}: signatures and the same bytes in the register say so.",
        *_limits(found),
    ]
    Console(soft_wrap=True).print("\n".join(lines), markup=False, highlight=False)
    show_table([asdict(part) for part in found.parts], "By evidence")


def _limits(found: Estimate) -> list[str]:
    lines = [f"Left out: {each.reason}." for each in found.left_out]
    lines += [] if found.complete else ["No calibrated detector looked at the rest: output that nobody marked or registered isn't seen."]
    if found.answers:
        lines.append(f"{found.answers:,} answers of a review took part.")
    if found.conflicts:
        lines.append(f"They contradict the calibration ({', '.join(found.conflicts)}): the corpus isn't like it, and they alone count.")
    limit = found.limit
    if limit is None or limit.by == "detector":
        return lines
    if limit.by == "calibration":
        lines.append("The calibration set, not the corpus, limits the precision.")
    if limit.more is None:
        lines.append(f"No calibration brings the half-width to {_percent(limit.wanted)}: the corpus is too small for the detector.")
    else:
        lines.append(f"{limit.more:,} more calibration records of each class bring the half-width to {_percent(limit.wanted)}.")
    return lines


@app.command("mix")
def mix_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `studbook corpus screen` wrote.")],
    out: Annotated[Path, typer.Option(help="New folder of the mix.")],
    human: Annotated[float, typer.Option(help="Least share of verified human records.")],
    most_per_model: Annotated[float, typer.Option(help="Largest share of any one model's records.")],
    size: Annotated[int | None, typer.Option(help="Records; as many as the quotas allow without it.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Add importance weights as a column.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    key: Annotated[Path | None, typer.Option(help="Key that signs the manifest.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Choose a training mix that keeps quotas, near duplicates counted once."""
    from rich.console import Console

    from studbook.mixing import Quotas
    from studbook.screening.mix import mix_corpora

    quotas, signer = Quotas(human, most_per_model), _key(key)
    with Console(stderr=True).status("choosing"):
        found = mix_corpora(folders, out, quotas, size=size, weights=weights, seed=seed, key=signer)
    if format_ is Format.JSON:
        show_json(asdict(found))
        return
    lines = [
        f"{found.size:,} records in {out}, of {found.read:,} in {found.clusters:,} clusters; the quotas allow {found.largest:,}.",
        f"Verified human: {found.human:,} ({_percent(found.human / found.size)}); of unknown origin: {found.unknown:,}.",
    ]
    Console(soft_wrap=True).print("\n".join(lines), markup=False, highlight=False)
    if found.per_model:
        show_table([{"model": name, "records": n, "share": n / found.size} for name, n in found.per_model.items()])


def _key(path: Path | None) -> SigningKey | None:
    from studbook.provenance import SigningKey

    return None if path is None else SigningKey.load(path)


@app.command("review")
def review_command(
    folder: Folder,
    n: Annotated[int, typer.Option("--n", min=1, help="Records to look at.")] = 20,
    calibration: Calibrations = None,
    confidence: Confidence = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    export: Annotated[Path | None, typer.Option(help="Write the queue as Label Studio's tasks instead of asking.")] = None,
    import_: Annotated[Path | None, typer.Option("--import", help="Read the answers of a Label Studio export.")] = None,
    renew: Annotated[Path | None, typer.Option(help="Write the detector's calibration renewed by all answers; needs --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key that signs the renewed calibration.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan and ask nothing.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="How to write the plan.")] = Format.TABLE,
) -> None:
    """Ask about the records whose origin would narrow the interval most; answers take part in `estimate`."""
    from studbook.screening.label_studio import export_tasks, import_answers
    from studbook.screening.review import review_queue

    if import_ is not None:
        _say(f"{import_answers(folder, import_):,} answers saved in {folder / 'review.jsonl'}")
    if renew is not None:
        _renew(folder, renew, calibration or [], key)
    if import_ is not None or renew is not None:
        return
    queue = review_queue(folder, n, calibrations=calibration or (), confidence=confidence, seed=seed)
    if export is not None:
        _say(f"{export_tasks(queue, export):,} tasks in {export}")
    _show_plan(queue, format_)
    if export is None and not plan and format_ is Format.TABLE:
        _ask(folder, queue)


def _renew(folder: Path, out: Path, calibrations: list[Path], key: Path | None) -> None:
    from studbook.errors import ConfigError
    from studbook.files import write_file
    from studbook.provenance import sign
    from studbook.screening.review import renewed_calibration

    signer = _key(key)
    if signer is None:
        raise ConfigError("--renew was given without --key", hint="make one: studbook key new KEY")
    found = renewed_calibration(folder, calibrations=calibrations)
    write_file(out, sign(found, signer))
    _say(
        f"{out}: {found.hits.events} of {found.hits.units} generated, {found.false_hits.events} of {found.false_hits.units} human ones hit"
    )


def _show_plan(queue: Queue, format_: Format) -> None:
    from studbook.screening.scores import BINS

    if format_ is Format.JSON:
        records = [{"record": item.record, "group": item.group, "stratum": stratum} for stratum, item in queue.items]
        plan = [asdict(each) for each in queue.plan]
        show_json({"half_width": queue.half_width, "expected": queue.expected, "plan": plan, "records": records})
        return
    if not queue.plan:
        _say("Nothing is open: a signature or the register decided every record.")
        return
    everything = " or ".join(BINS)
    rows = [asdict(each) | ({"stratum": "all"} if each.stratum == everything else {}) for each in queue.plan]
    show_table(rows, "Strata")
    _say(f"Half-width {_percent(queue.half_width)}, expected {_percent(queue.expected)} after {len(queue.items):,} answers.")


def _ask(folder: Path, queue: Queue) -> None:
    """Ask about one record after the other; each answer is saved at once, so that stopping loses none."""
    from studbook.screening.review import save_answer

    choices = {"g": "generated", "h": "human", "s": "skip"}
    for i, (stratum, item) in enumerate(queue.items, 1):
        _say(f"\n{i} of {len(queue.items)}: {item.record}\n{_shown(item)}")
        while (answer := typer.prompt("[g]enerated, [h]uman, [s]kip, [q]uit", err=True).strip().lower()[:1]) not in {*choices, "q"}:
            _say("expected g, h, s or q")
        if answer == "q":
            return
        save_answer(folder, item, stratum, choices[answer])


def _shown(item: Located) -> str:
    return item.text[:_MOST_SHOWN] or item.reason[:_MOST_SHOWN]


def _say(text: str) -> None:
    """Show a text, and nothing that would control the terminal: it may come from outside."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(printable(text), markup=False, highlight=False)


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"
