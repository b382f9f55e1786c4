"""``studbook serve``: services that run until they are told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

app = typer.Typer(help="Services: a verifier that votes on claims.", no_args_is_help=True)

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
