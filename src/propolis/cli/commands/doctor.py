"""`propolis doctor`: what works on this host, why not, and what to do."""

import json
from dataclasses import asdict

import click

from propolis.cli.table import format_options
from propolis.machine.doctor import examine, mend
from propolis.preflight.checks import Verdict

_MARKS = {Verdict.OK: "ok  ", Verdict.WARNING: "warn", Verdict.FAILURE: "FAIL"}


@click.command("doctor")
@format_options("text", what="one array")
@click.option("--fix", is_flag=True, help="First remove what machines of killed processes have left.")
def command(form: str, fix: bool) -> int:
    """Show what works on this host, why not, and what to do about it.

    Exits with 1 when no machine can run here.
    """
    if fix:
        for line in mend():
            click.echo(line, err=form == "json")
    checks = examine()
    if form == "json":
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{_MARKS[check.verdict]}  {check.name:<{width}}  {check.found}")
            if check.remedy and check.verdict is not Verdict.OK:
                click.echo(f"      {'':<{width}}  -> {check.remedy}")
    return int(any(check.verdict is Verdict.FAILURE for check in checks))
