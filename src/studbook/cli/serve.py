"""``studbook serve``: services that run until they are told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

app = typer.Typer(help="Services: a verifier that votes on claims, and a register that finds what was signed.", no_args_is_help=True)

_Models: TypeAlias = Annotated[list[Path], typer.Option("--model", metavar="FOLDER", help="Folder of a model that claims may name.")]
_Calibrations: TypeAlias = Annotated[list[Path], typer.Option("--calibration", metavar="FILE", help="Signed calibration of a model.")]
_Trust: TypeAlias = Annotated[
    list[str], typer.Option("--trust-calibrations", metavar="KEY", help="Who may sign calibrations: ed25519:…, or a file of keys.")
]
_Key: TypeAlias = Annotated[Path, typer.Option("--key", help="The node's private key, made by `studbook key new`.")]
_Host: TypeAlias = Annotated[str, typer.Option("--host", help="Address to bind; other than loopback needs --token-file.")]
_Port: TypeAlias = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
_Tokens: TypeAlias = Annotated[Path | None, typer.Option("--token-file", help="Callers' tokens, one a line, mode 600.")]
_Claimants: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--trust-claimants", metavar="KEY", help="Whose claims are examined: ed25519:…, or a file of keys."),
]
_Queue: TypeAlias = Annotated[int, typer.Option("--queue", help="Claims that may wait.")]
_Keep: TypeAlias = Annotated[int, typer.Option("--keep", help="Finished jobs that are remembered.")]
_Workers: TypeAlias = Annotated[int, typer.Option("--workers", help="Processes that examine claims side by side.")]
_Time: TypeAlias = Annotated[float, typer.Option("--time-limit-s", help="Longest examination of a claim, in seconds.")]
_Memory: TypeAlias = Annotated[int, typer.Option("--memory-limit-mb", help="Most memory of a worker, in MiB; 0 is no limit.")]
_Body: TypeAlias = Annotated[int, typer.Option("--body-limit-kb", help="Longest body of a request, in KiB.")]
_Drain: TypeAlias = Annotated[float, typer.Option("--drain-s", help="Patience on SIGTERM for claims that were accepted, in seconds.")]
_OneStep: TypeAlias = Annotated[bool, typer.Option("--one-step", help="Redo one step of a picture, and don't draw it again as a whole.")]
_Offline: TypeAlias = Annotated[
    bool, typer.Option("--accept-offline-evidence", help="Also take evidence that doesn't answer the round's challenge.")
]
_Register: TypeAlias = Annotated[str, typer.Argument(metavar="REGISTER", help="A file, or postgresql://user@host:port/database.")]
_Index: TypeAlias = Annotated[Path | None, typer.Option("--index", metavar="DIR", help="Folder of the indexes; default: beside the file.")]
_Listen: TypeAlias = Annotated[str, typer.Option("--host", help="Address to bind; other than loopback needs tokens, or --open-reads.")]
_Writers: TypeAlias = Annotated[Path | None, typer.Option("--write-token-file", help="Tokens of those who may write and read, mode 600.")]
_Readers: TypeAlias = Annotated[Path | None, typer.Option("--read-token-file", help="Tokens of those who may read, mode 600.")]
_OpenReads: TypeAlias = Annotated[bool, typer.Option("--open-reads", help="Anybody may read.")]
_Roots: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--trust", metavar="PATH", help="Root certificate of those whose manifests are kept; repeat.")
]
_Rate: TypeAlias = Annotated[float, typer.Option("--rate", help="Requests a second of each caller, by token or address; 0 is no limit.")]
_Burst: TypeAlias = Annotated[int, typer.Option("--burst", help="Requests that a caller may send at once.")]
_Threads: TypeAlias = Annotated[int, typer.Option("--threads", help="Threads that read, each with a picture at most.")]
_Pixels: TypeAlias = Annotated[int, typer.Option("--pixel-limit-mp", help="Most millions of pixels of a picture.")]
_Answer: TypeAlias = Annotated[float, typer.Option("--time-limit-s", help="Longest wait for an answer, in seconds.")]
_Finish: TypeAlias = Annotated[float, typer.Option("--drain-s", help="Patience on SIGTERM for requests that were taken, in seconds.")]


@app.callback()
def _services() -> None:
    """Services that run until they are told to stop."""


@app.command("verifier")
def verifier_command(
    key: _Key, model: _Models, calibration: _Calibrations, trust_calibrations: _Trust,
    host: _Host = "127.0.0.1", port: _Port = 8471, token_file: _Tokens = None, trust_claimants: _Claimants = None,
    queue: _Queue = 32, keep: _Keep = 1024, workers: _Workers = 1, time_limit_s: _Time = 120.0, memory_limit_mb: _Memory = 4096,
    body_limit_kb: _Body = 8192, drain_s: _Drain = 20.0, one_step: _OneStep = False, accept_offline_evidence: _Offline = False,
) -> None:  # fmt: skip
    """Vote on claims over HTTP, with registered models; runs until SIGTERM or Ctrl-C."""
    from studbook.provenance import SigningKey
    from studbook.verification.token_files import read_tokens
    from studbook.web.guard import Tokens
    from studbook.web.limits import Limits
    from studbook.web.operating import check_binding, read_keys, read_setup, require_service, serve_until_stopped
    from studbook.web.verifier_node import VerifierNode

    require_service()
    from studbook.web.verifier_service import create_app

    limits = Limits(
        queue=queue, keep=keep, workers=workers, time_limit_s=time_limit_s, memory_limit_mb=memory_limit_mb,
        body_bytes=body_limit_kb << 10, accept_offline_evidence=accept_offline_evidence,
    )  # fmt: skip
    tokens = None if token_file is None else Tokens.of(read_tokens(token_file))
    check_binding(host, tokens)
    claimants = read_keys(trust_claimants) if trust_claimants else None
    setup = read_setup(model, calibration, read_keys(trust_calibrations), whole=not one_step, offline=accept_offline_evidence)
    node = VerifierNode(SigningKey.load(key), setup, limits, claimants=claimants)
    serve_until_stopped(create_app(node, limits, tokens), node, (host, port), drain_s=drain_s, ready=lambda url: _say(node.public, url))


def _say(public: object, url: str) -> None:
    typer.echo(f"verifier {public} at {url}", err=True)


@app.command("registry")
def registry_command(
    register: _Register, index: _Index = None, host: _Listen = "127.0.0.1", port: _Port = 8481, write_token_file: _Writers = None,
    read_token_file: _Readers = None, open_reads: _OpenReads = False, trust: _Roots = None, rate: _Rate = 20.0, burst: _Burst = 40,
    body_limit_kb: _Body = 32768, threads: _Threads = 2, pixel_limit_mp: _Pixels = 32, time_limit_s: _Answer = 30.0,
    drain_s: _Finish = 10.0,
) -> None:  # fmt: skip
    """Find manifests by fingerprint over HTTP (C2PA's soft binding resolution API); runs until SIGTERM or Ctrl-C."""
    from studbook.provenance import Trust
    from studbook.verification.token_files import read_tokens
    from studbook.web.guard import Tokens
    from studbook.web.limits import RequestLimits
    from studbook.web.operating import require_service, serve_until_stopped
    from studbook.web.rates import Rates
    from studbook.web.register_access import Access
    from studbook.web.register_node import RegisterLimits, RegisterNode

    require_service()
    from studbook.web.register_service import create_app

    writers, readers = (None if path is None else Tokens.of(read_tokens(path)) for path in (write_token_file, read_token_file))
    access = Access(writers, readers, open_reads)
    access.check_host(host)
    limits = RegisterLimits(RequestLimits(body_bytes=body_limit_kb << 10), time_limit_s, threads, pixel_limit_mp * 1_000_000)
    node = RegisterNode(register, limits, trust=Trust.load(trust) if trust else None, index=index)
    service = create_app(node, access, Rates(rate, burst) if rate else None)
    serve_until_stopped(service, node, (host, port), drain_s=drain_s, ready=lambda url: typer.echo(f"register at {url}", err=True))
