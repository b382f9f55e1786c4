"""``studbook training``: how models are trained together, and where their randomness comes from."""

from __future__ import annotations

import typer

from studbook.cli.training_attacks import attacks_command
from studbook.cli.training_diagnose import diagnose_command
from studbook.cli.training_report import report_command
from studbook.cli.training_run import run_command
from studbook.cli.training_select import select_command
from studbook.cli.training_verify import verify_command

app = typer.Typer(help="Verifiable training.", no_args_is_help=True, rich_markup_mode=None)
app.command("run")(run_command)
app.command("verify")(verify_command)
app.command("report")(report_command)
app.command("diagnose")(diagnose_command)
app.command("select")(select_command)
app.command("attacks")(attacks_command)
