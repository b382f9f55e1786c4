"""``studbook claim``: claim an output, show, check, calibrate, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studbook.cli._claims import (
    Sampling,
    environment_of,
    expected_quorum,
    keep_output,
    model_folder,
    opened_register,
    resolve_keys,
    sampling_of,
    show_calibration,
    show_examination,
    show_record,
    show_verdict,
)
from studbook.cli.billion import billion_command
from studbook.cli.rendering import Format
from studbook.errors import ConfigError

app = typer.Typer(help="Did that model really produce this output?", no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="Your private key: studbook key new FILE.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a language or diffusion model, a hub id, or smollm2.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the answer.")]
ClaimFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a claim.")]
MaxNew = Annotated[int, typer.Option(help="Texts: new tokens, at most.")]
Temperature = Annotated[float, typer.Option(help="Texts: 0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Texts: likeliest tokens that are left; 0 is all.")]
TopP = Annotated[float, typer.Option(help="Texts: probability that the likeliest tokens left hold.")]
Beams = Annotated[int, typer.Option(help="Texts: above 1, beam search.")]
Steps = Annotated[int, typer.Option(help="Pictures: denoising steps.")]
Guidance = Annotated[float, typer.Option(help="Pictures: weight of the guidance.")]
Eta = Annotated[float, typer.Option(help="Pictures: 0 is deterministic, 1 as noisy as DDPM.")]
Register = Annotated[str | None, typer.Option("--register", help="Register that keeps it too: a file, or postgresql://…")]
Trust = Annotated[list[str] | None, typer.Option("--trust", metavar="KEY", help="Public key that may have signed; may be repeated.")]


@app.callback()
def _group() -> None:
    pass


@app.command("make")
def make(
    model: Model,
    request: Annotated[str, typer.Argument(help="The prompt of a text, the class of a picture.")],
    key: Key,
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    max_new: MaxNew = 64,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    beams: Beams = 1,
    steps: Steps = 20,
    guidance: Guidance = 0.0,
    eta: Eta = 0.0,
    engine: Annotated[str, typer.Option(help="studbook or transformers.")] = "studbook",
    dtype: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    register: Register = None,
) -> None:
    """Run a model, and sign the claim that this is what came out."""
    from studbook.provenance import SigningKey
    from studbook.report.png import encode_png
    from studbook.verification.folder import require_new, write_claim_folder
    from studbook.verification.workflow import make_claim

    require_new(out)
    secret = SigningKey.load(key)
    place = model_folder(model)
    how = sampling_of(place, Sampling(max_new, temperature, top_k, top_p, beams, steps, guidance, eta))
    made = make_claim(place, request, how, seed, environment_of(engine, dtype, threads, device=device))
    files = {} if made.pixels is None else {"output.png": encode_png(made.pixels)}
    with opened_register(register) as known:
        packet = write_claim_folder(out, made, secret, files)
        keep_output(known, packet.claim, files.get("output.png", made.text))
    typer.echo(made.text or str(out / "output.png"))
    typer.echo(f"{packet.claim.id}\nclaimed by {packet.claim.key}, in {out}", err=True)


@app.command("challenge")
def challenge() -> None:
    """Draw a nonce: what a verifier asks a claimant to answer, and the name of the round of votes that follows."""
    from studbook.verification.quorum import new_round

    typer.echo(new_round())


@app.command("answer")
def answer_challenge(
    folder: ClaimFolder,
    nonce: Annotated[str, typer.Option(help="The verifier's: 32 hex digits.")],
    key: Key,
    out: Annotated[Path | None, typer.Option("--out", help="File of the evidence; default: evidence-NONCE.json in the folder.")] = None,
) -> None:
    """Answer a verifier's challenge: open what it asks for of what the claim committed to."""
    from studbook.files import write_file
    from studbook.provenance import SigningKey, read_signed, sign
    from studbook.records import Claim
    from studbook.verification.claimant import answer, load_states
    from studbook.verification.folder import CLAIM, STATES

    claim = read_signed(folder / CLAIM, Claim).record
    path = out or folder / f"evidence-{nonce[:32]}.json"
    evidence = answer(claim, load_states(folder / STATES), nonce)
    write_file(path, sign(evidence, SigningKey.load(key)))
    typer.echo(path)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Claim, evidence, ballot, receipt or calibration; or a claim's folder.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show what a signed record says and who signed it, once its signature was checked."""
    show_record(file, format_)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Claim, evidence, ballot, receipt or calibration; or a claim's folder.")],
    trust: Trust = None,
    voter: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Receipts: public key of an expected voter; repeat.")] = None,
    quorum: Annotated[int | None, typer.Option(help="Receipts: votes that decide, of the expected voters.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Check a record by itself: form, signature, and of a receipt the votes. No model is run, none is needed.

    Exit code 0: nothing was changed since it was signed; 3: it was; 1: it is no such record. Of a receipt also 3 for a rejected and 4 for
    an undecided claim. A receipt is worth what its voters are: name those that you expect with --voter and --quorum.
    """
    expected = expected_quorum(resolve_keys(voter), quorum)
    raise typer.Exit(show_record(file, format_, whole=False, trusted=resolve_keys(trust), expected=expected))


@app.command("calibrate")
def calibrate(
    model: Model,
    key: Key,
    out: Out,
    false_alarm: Annotated[float, typer.Option(help="Largest probability that an honest output is beyond the limit.")],
    confidence: Annotated[float, typer.Option(help="Confidence of that, and of all intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    max_new: MaxNew = 64,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    beams: Beams = 1,
    steps: Steps = 20,
    guidance: Guidance = 0.0,
    eta: Eta = 0.0,
    prompts: Annotated[
        Path | None, typer.Option(help="Texts: file of prompts, one a line; default: cut from Python's documentation.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Texts: tokens of a prompt that is cut.")] = 24,
    scheme: Annotated[str, typer.Option(help="Pictures: fingerprint that is compared.")] = "phash",
    batch: Annotated[int, typer.Option(min=2, help="Outputs side by side, in the environments that have several.")] = 8,
    bf16: Annotated[bool, typer.Option(help="Whether bf16 is honest.")] = True,
    environment: Annotated[
        list[str] | None,
        typer.Option(metavar="ENGINE/DTYPE/THREADS/BATCH", help="An honest environment: studbook/bf16/1/8, or …/cuda; repeat."),
    ] = None,
    verifier: Annotated[
        str, typer.Option(metavar="ENGINE/DTYPE/THREADS/BATCH", help="Where verifiers run; some models need transformers' engine.")
    ] = "studbook/fp32/1/1",
    smaller: Annotated[Path | None, typer.Option(help="Folder of a smaller model whose use is a cheat.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Run honest environments and cheats; choose the limits that keep a false-alarm rate, and say how often each cheat is caught."""
    from studbook.cli._claims import declared, progress_on_stderr
    from studbook.files import write_file
    from studbook.provenance import SigningKey, sign
    from studbook.verification.calibration import Target
    from studbook.verification.prompts import read_prompts
    from studbook.verification.workflow import calibrate_model

    secret, target = SigningKey.load(key), Target(false_alarm, confidence)
    place = model_folder(model)
    how = sampling_of(place, Sampling(max_new, temperature, top_k, top_p, beams, steps, guidance, eta))
    asked = None if prompts is None else read_prompts(prompts)
    with progress_on_stderr() as progress:
        found = calibrate_model(
            place, how, target, seed=seed, batch=batch, bf16=bf16, environments=declared(environment),
            verifier=declared([verifier])[0], smaller=smaller, prompts=asked, prompt_tokens=prompt_tokens, scheme=scheme, progress=progress,
        )  # fmt: skip
    write_file(out, sign(found, secret))
    show_calibration(found, format_)


@app.command("verify")
def verify(
    folder: ClaimFolder,
    evidence: Annotated[Path | None, typer.Option(help="File of the evidence; default: evidence.json in the folder.")] = None,
    nonce: Annotated[str | None, typer.Option(help="The challenge that you drew, which the evidence must answer: 32 hex digits.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="MODEL", help="Model that may be run here; may be repeated.")
    ] = None,
    calibration: Annotated[
        list[Path] | None, typer.Option("--calibration", metavar="FILE", help="Signed calibration; may be repeated.")
    ] = None,
    trust: Trust = None,
    one_step: Annotated[bool, typer.Option("--one-step", help="Pictures: redo one step instead of all.")] = False,
    verifiers: Annotated[str | None, typer.Option(help="Ask these nodes instead: URL#KEY,URL#KEY,… (key: ed25519:…).")] = None,
    quorum: Annotated[int | None, typer.Option(help="Votes that decide; more than half of the nodes.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File of the nodes' tokens: lines of KEY or URL, a blank, and the token.")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key that signs the receipt.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File of the receipt.")] = None,
    timeout_s: Annotated[float, typer.Option(min=1.0, help="Seconds until a node counts as missing.")] = 120.0,
    register: Register = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Run a claim again: here, or on several nodes that vote. Exit code 0: accepted; 3: rejected; 4: inconclusive."""
    from studbook.cli import _claims

    if register is not None and (verifiers is None or out is None):
        raise ConfigError("--register keeps a receipt, and none is written", hint="ask nodes with --verifiers, and write it with --out")
    if verifiers is None:
        examined = _claims.examine_here(folder, evidence, nonce, model or [], calibration or [], resolve_keys(trust), whole=not one_step)
        raise typer.Exit(show_examination(examined, format_))
    if model or calibration or trust or one_step:
        raise ConfigError(
            "nodes have models, calibrations and ways of their own", hint="leave out --model, --calibration, --trust and --one-step"
        )
    with opened_register(register) as known:
        verdict, notes = _claims.ask_nodes(folder, evidence, nonce, verifiers, quorum, token_file, key, out, timeout_s)
        if known is not None and out is not None:
            known.add_verdict(out.read_bytes())
    raise typer.Exit(show_verdict(verdict, notes, format_))


@app.command("consensus")
def consensus(
    model: Model,
    beams: Annotated[str, typer.Option(help="Beam widths, comma-separated; 1 is greedy.")] = "1,2,4",
    n: Annotated[int, typer.Option("-n", min=2, help="Number of prompts.")] = 16,
    max_new: MaxNew = 64,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 24,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    batch: Annotated[int, typer.Option(min=2, help="Texts side by side, in the environments that have several.")] = 8,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show in which environments greedy decoding and beam search give the same text, token for token."""
    from studbook.cli._claims import beam_widths, progress_on_stderr, show_rows
    from studbook.verification.consensus import consensus_rows

    widths = beam_widths(beams)
    with progress_on_stderr() as progress:
        rows = consensus_rows(
            model_folder(model),
            widths,
            n=n,
            max_new=max_new,
            prompt_tokens=prompt_tokens,
            confidence=confidence,
            batch=batch,
            progress=progress,
        )
    show_rows(rows, format_)


app.command("billion")(billion_command)
