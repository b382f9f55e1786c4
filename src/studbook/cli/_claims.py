"""What the commands of ``studbook claim`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import ConfigError, RecordError, SignatureError

if TYPE_CHECKING:
    from studbook.provenance import PublicKey, Signed
    from studbook.records import Calibration, Check, Claim, Environment, ImageSampling, TextSampling, Verdict
    from studbook.registry import Register
    from studbook.verification.quorum import Quorum
    from studbook.verification.verifier import Examination

REJECTED, INCONCLUSIVE = 3, 4


@dataclass(frozen=True, slots=True)
class Sampling:
    """The options of both kinds of models."""

    max_new: int
    temperature: float
    top_k: int
    top_p: float
    beams: int
    steps: int
    guidance: float
    eta: float


def model_folder(name: str) -> Path:
    """The folder of a model that was named."""
    from studbook.neural.pretrained import find_folder

    return Path(name) if Path(name).is_dir() else find_folder(name)


def sampling_of(model: Path, options: Sampling) -> TextSampling | ImageSampling:
    """The options that the kind of model in a folder has."""
    from studbook.records import ImageSampling, TextSampling
    from studbook.verification.models import register_model

    try:
        if register_model(model).family == "image":
            return ImageSampling(steps=options.steps, guidance=options.guidance, eta=options.eta)
        return TextSampling(
            max_new=options.max_new, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, beams=options.beams
        )
    except RecordError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def declared(texts: Sequence[str] | None) -> tuple[Environment, ...]:
    """Environments from ``ENGINE/DTYPE/THREADS/BATCH``, with ``/cuda`` after it where it isn't the CPU."""
    found = []
    for text in texts or ():
        engine, dtype, *rest = [*text.split("/"), ""]
        if len(rest) not in {3, 4} or not all(part.isdigit() and len(part) < 8 for part in rest[:2]):
            raise ConfigError(f"an environment is {text[:80]!r}, expected ENGINE/DTYPE/THREADS/BATCH", hint="for example studbook/bf16/1/8")
        found.append(environment_of(engine, dtype, int(rest[0]), int(rest[1]), device=rest[2] or "cpu"))
    return tuple(found)


def environment_of(engine: str, dtype: str, threads: int, batch: int = 1, *, device: str = "cpu") -> Environment:
    """An environment from options."""
    from studbook.records import Environment
    from studbook.records.codec import from_plain

    try:
        return from_plain(
            Environment, {"engine": engine, "dtype": dtype, "device": device, "threads": threads, "batch": batch}, "the environment"
        )
    except RecordError as error:
        raise ConfigError(error.message, hint="engines: studbook, transformers; number types: fp32, bf16") from error


@contextmanager
def opened_register(location: str | None) -> Iterator[Register | None]:
    """The register that is meant, opened before any work is done; ``None`` where none is."""
    if location is None:
        yield None
        return
    from studbook.registry import Register

    with Register.open(location) as register:
        yield register


def keep_output(register: Register | None, claim: Signed[Claim], output: str | bytes) -> None:
    """Keep a claim's output where there is a register; an empty text stays out, as it would be like any other."""
    from studbook.verification.registering import register_output

    if register is None:
        return
    if output:
        register_output(register, claim, output)
    else:
        typer.echo("the output is empty and isn't registered", err=True)


def resolve_keys(texts: Sequence[str] | None) -> tuple[PublicKey, ...] | None:
    """Public keys, or ``None`` where none were named."""
    from studbook.errors import SignatureError
    from studbook.provenance import PublicKey

    try:
        return tuple(PublicKey(text) for text in texts) if texts else None
    except SignatureError as error:
        raise ConfigError(error.message, hint="studbook key show FILE shows a key's public half") from error


def expected_quorum(voters: Sequence[PublicKey] | None, k: int | None) -> Quorum | None:
    """The quorum that a reader of a receipt expects, or ``None`` where none was named."""
    from studbook.verification.quorum import Quorum

    if voters is None and k is None:
        return None
    if voters is None or k is None:
        raise ConfigError(
            "an expected quorum needs both its voters and how many decide", hint="--voter KEY --voter KEY --voter KEY --quorum 2"
        )
    return Quorum(k, tuple(voters))


@contextmanager
def progress_on_stderr() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done."""
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def show_record(
    path: Path, format_: Format, *, whole: bool = True, trusted: Sequence[PublicKey] | None = None, expected: Quorum | None = None
) -> int:
    """Check whatever signed record a file holds, show it (``whole``) or say that it holds together; the exit code."""
    from studbook import records
    from studbook.provenance import open_signed, payload_schema, read_bounded
    from studbook.records.codec import to_plain
    from studbook.verification.folder import CLAIM

    file = path / CLAIM if path.is_dir() else path
    data = read_bounded(file)
    kinds: dict[str, Any] = {
        cls.SCHEMA.split("/")[0]: cls for cls in (records.Claim, records.Evidence, records.Ballot, records.Receipt, records.Calibration)
    }
    schema = payload_schema(data, file.name)
    cls = kinds.get(schema.split("/")[0])
    if cls is None:
        raise RecordError(f"{file.name} holds {schema[:80]!r}", hint=f"expected one of {', '.join(kinds)}")
    if cls is records.Receipt:
        return _show_receipt(data, file.name, format_, trusted, expected)
    signed = open_signed(data, cls, file.name, keys=trusted)
    if format_ is Format.JSON:
        show_json({"signed_by": str(signed.key), "id": signed.id, "record": to_plain(signed.record)})
        return 0
    typer.echo(f"{schema}  {signed.id}\nsigned by {signed.key}: nothing was changed since")
    if whole and cls is records.Calibration:
        show_calibration(signed.record, format_)
    elif whole:
        show_table([{"": name, " ": _shortened(value)} for name, value in _flat(to_plain(signed.record))])
    return 0


def _show_receipt(data: bytes, name: str, format_: Format, trusted: Sequence[PublicKey] | None, expected: Quorum | None) -> int:
    """Judge again, and say whose votes they are."""
    from studbook.records.codec import to_plain
    from studbook.verification.quorum import check_receipt

    receipt, claim = check_receipt(data, name, coordinators=trusted, quorum=expected)
    record = receipt.record
    if format_ is Format.JSON:
        known = {"coordinator": str(receipt.key), "claimant": str(claim.key), "voters_expected": expected is not None}
        show_json({**known, "recipe": to_plain(claim.record.recipe), "receipt": to_plain(record)})
        return _exit_code(record.verdict)
    recipe = claim.record.recipe
    rows = {
        "claimed by": claim.key, "model": recipe.model, "request": recipe.request, "seed": recipe.seed, "judged by": receipt.key,
        **{f"voter {i + 1}": voter for i, voter in enumerate(record.voters)},
    }  # fmt: skip
    show_table([{"": row, " ": _shortened(value)} for row, value in rows.items()])
    if expected is None:
        typer.echo("whose keys these are, this doesn't say: compare them, or name the voters that you expect (--voter KEY … --quorum K)")
    return show_verdict(record.verdict, record.notes, format_)


def _exit_code(verdict: Verdict) -> int:
    return {"accept": 0, "reject": REJECTED}.get(verdict.outcome, INCONCLUSIVE)


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, each in enumerate(value):
                yield from _flat(each, f"{prefix}{name}.{i}.")
        else:
            yield f"{prefix}{name}", value


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


def beam_widths(text: str) -> list[int]:
    """Widths out of a list with commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < len(part) < 4 for part in parts):
        raise ConfigError(f"--beams is {text[:80]!r}, expected widths and commas", hint="for example 1,2,4")
    return [int(part) for part in parts]


def show_rows(rows: list[dict[str, Any]], format_: Format) -> None:
    """Rows as a table or JSON."""
    show_json(rows) if format_ is Format.JSON else show_table(rows)


def show_calibration(calibration: Calibration, format_: Format) -> None:
    """Limits and rates, for people or programs."""
    from studbook.records.codec import to_plain

    if format_ is Format.JSON:
        show_json(to_plain(calibration))
        return
    level = calibration.levels[-1]
    unit = "prompts" if calibration.kind == "text" else "pictures"
    size = f"{level.size} tokens" if calibration.kind == "text" else "a picture"
    rest = f"{calibration.units} {unit}, each in the worst of {len(calibration.environments)} environments"
    typer.echo(f"\nAn honest output of {size} is beyond the limit with probability {calibration.false_alarm:g} at most")
    typer.echo(f"(confidence {calibration.confidence:g}; {rest}).")
    rows = [_rate_row("honest", rate) for rate in level.honest] + [_rate_row("cheat", rate) for rate in level.cheats]
    show_table(rows, title="flagged (the limit was chosen on the honest rows)")
    limits = [
        {"finding": each.finding, "measured": each.name, "honest median": each.centre, "limit": each.centre + each.spread * level.limit}
        for each in level.features
    ]
    show_table(limits, title="limits")
    if calibration.radii:
        show_table(
            [_radius_row(radius) for radius in calibration.radii], title="fingerprints: radius, and bounds on other pictures within it"
        )
    if calibration.sequential:
        tests = [
            {
                "cheat": test.cheat, "half found after": f"{test.median_tokens} tokens" if test.median_tokens else "not found",
                "missed": f"{test.cheat_missed.events} of {test.cheat_missed.units}",
                "honest taken for it": f"{test.honest_wrong.events} of {test.honest_wrong.units}",
            }
            for test in calibration.sequential
        ]  # fmt: skip
        show_table(tests, title="token by token, by activations (sequential test)")


def _radius_row(radius: Any) -> dict[str, Any]:
    return {
        "scheme": radius.scheme, "radius in bits": radius.radius_bits, "same class, other seed": f"at most {radius.same_class:.3g}",
        "other class": f"at most {radius.other_class:.3g}", "pairs": radius.pairs,
    }  # fmt: skip


def _rate_row(kind: str, rate: Any) -> dict[str, Any]:
    return {
        "": kind, "setting": rate.name, "flagged": f"{rate.events} of {rate.units}", "rate": rate.rate,
        "interval": f"{rate.lower:.3f} to {rate.upper:.3f}",
    }  # fmt: skip


def examine_here(
    folder: Path,
    evidence: Path | None,
    nonce: str | None,
    models: Sequence[str],
    calibrations: Sequence[Path],
    trusted: Sequence[PublicKey] | None,
    *,
    whole: bool,
) -> Examination:
    """Examine a claim in this process."""
    from studbook.provenance import read_signed
    from studbook.records import Calibration
    from studbook.verification.folder import read_packet
    from studbook.verification.models import ModelStore
    from studbook.verification.quorum import new_round
    from studbook.verification.verifier import Verifier

    if not models or not calibrations:
        message = "a claim is verified with a model and a calibration, or by nodes that have them"
        raise ConfigError(message, hint="--model FOLDER --calibration FILE, or --verifiers URL#KEY,URL#KEY,URL#KEY")
    packet = read_packet(folder, evidence=evidence)
    try:
        loaded = [read_signed(path, Calibration, keys=trusted) for path in calibrations]
    except SignatureError as error:  # it says nothing about the claim
        raise ConfigError(error.message, hint="name who signs your calibrations with --trust") from error
    for path, signed in zip(calibrations, loaded, strict=True):
        if trusted is None:
            typer.echo(f"{path} is signed by {signed.key}; name whose calibrations you trust with --trust", err=True)
    typer.echo(f"claimed by {packet.claim.key}", err=True)
    if nonce is None:
        typer.echo("the challenge is the claimant's own, not yours: see studbook claim challenge", err=True)
    store = ModelStore([model_folder(name) for name in models])
    verifier = Verifier(store, [signed.record for signed in loaded], whole=whole, offline=nonce is None)
    return verifier.examine(packet, new_round() if nonce is None else nonce)


def show_examination(examined: Examination, format_: Format) -> int:
    """One verifier's measurements, and the exit code."""
    from studbook.records import FINDINGS
    from studbook.records.codec import to_plain

    ballot = examined.ballot
    if format_ is Format.JSON:
        show_json({"accepts": ballot.accepts, **to_plain(ballot)})
        return 0 if ballot.accepts else REJECTED
    show_table([_check_row(check) for check in ballot.checks])
    if examined.contradiction:
        typer.echo(examined.contradiction)
    words = {True: "holds", False: "broken", None: "not looked at"}
    typer.echo("\n".join(f"{name}: {words[ballot.finding(name)]}" for name in FINDINGS))
    for test in examined.tests:
        if test.verdict == "undecided" and test.more < 1 << 20:
            typer.echo(f"{test.cheat}: undecided after {test.tokens} tokens; about {test.more} more would tell")
        elif test.verdict != "undecided":
            typer.echo(f"{test.cheat}: {'looks like it' if test.verdict == 'cheat' else 'ruled out'} after {test.tokens} tokens")
    typer.echo("ACCEPT" if ballot.accepts else "REJECT")
    return 0 if ballot.accepts else REJECTED


def _check_row(check: Check) -> dict[str, Any]:
    return {
        "finding": check.finding, "measured": check.name, "value": check.value, "limit": check.limit, "of": check.n,
        "": "" if check.passes else "beyond the limit",
    }  # fmt: skip


def ask_nodes(
    folder: Path,
    evidence: Path | None,
    nonce: str | None,
    verifiers: str,
    k: int | None,
    token_file: Path | None,
    key: Path | None,
    out: Path | None,
    timeout_s: float,
) -> tuple[Verdict, Sequence[str]]:
    """Let nodes vote on a claim, and write the receipt."""
    from studbook.files import write_file
    from studbook.provenance import SigningKey
    from studbook.verification.calibration import now
    from studbook.verification.coordinator import nodes_of, verify_claim
    from studbook.verification.folder import read_packet
    from studbook.verification.quorum import Quorum, make_receipt

    if (key is None) != (out is None):
        raise ConfigError("a receipt needs both --key and --out", hint="name the key that signs it and the file to write")
    secret = None if key is None else SigningKey.load(key)
    packet = read_packet(folder, evidence=evidence)
    nodes = nodes_of(verifiers, token_file)
    quorum = Quorum(len(nodes) // 2 + 1 if k is None else k, tuple(node.key for node in nodes))
    if nonce is None:
        message = "nodes vote on evidence that answers a challenge of yours"
        raise ConfigError(
            message, hint="studbook claim challenge, then claim answer --nonce, then claim verify --nonce NONCE --evidence FILE"
        )
    round_ = nonce
    with progress_on_stderr() as progress:
        found = verify_claim(packet.claim.data, packet.evidence.data, nodes, quorum, round_, timeout_s=timeout_s, progress=progress)
    verdict = quorum.judge(packet.claim, found.ballots, round_=round_)
    if secret is not None and out is not None:
        write_file(out, make_receipt(packet.claim.data, found.ballots, quorum, round_, secret, notes=found.notes, made=now()))
    return verdict, found.notes


def show_verdict(verdict: Verdict, notes: Sequence[str], format_: Format) -> int:
    """A verdict, and the exit code."""
    from studbook.records.codec import to_plain

    if format_ is Format.JSON:
        show_json({**to_plain(verdict), "notes": list(notes)})
    else:
        rows = [
            {
                "finding": tally.finding, "holds": tally.passed, "broken": tally.failed, "not looked at": tally.unknown,
                "beyond the limit": ", ".join(tally.broken) or "–",
            }
            for tally in verdict.findings
        ]  # fmt: skip
        show_table(rows, title="ballots")
        for note in notes:
            typer.echo(note)
        counted = f"{verdict.accepts} accept, {verdict.rejects} reject, {verdict.missing} missing"
        typer.echo(f"{verdict.outcome.upper()}: {counted}; {verdict.k} of {verdict.n} decide")
    return _exit_code(verdict)
