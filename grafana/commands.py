"""`iot grafana`: speaks to Grafana with Grafana's own token; ours is never sent there."""

from __future__ import annotations

from pathlib import Path

import click

from iot_core.cli.base import Command, Group, option
from iot_core.cli.endings import reason
from iot_core.errors import RequestError
from iot_core.messages import language, text
from iot_core.settings import environment

__all__ = ["grafana"]

# The names differ from those of the common --url and --token, which are our core's.
_URL = option("--url", "grafana_url", envvar="GRAFANA_URL", required=True, help=text("grafana.opt_url"))
_TOKEN = option("--token", "grafana_token", envvar="GRAFANA_TOKEN", required=True, help=text("grafana.opt_token"))
_PROFILES = option(
    "--profiles",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help=text("grafana.opt_profiles"),
)


@click.group(
    "grafana",
    cls=Group,
    help=text("grafana.help"),
    examples=["iot grafana export ./grafana-files", "iot grafana apply --url http://127.0.0.1:3000"],
)
def grafana() -> None:
    """Group the two commands."""


@grafana.command(
    "apply",
    cls=Command,
    help=text("grafana.help_apply"),
    examples=["GRAFANA_TOKEN=glsa_... iot grafana apply --url http://127.0.0.1:3000"],
)
@_URL
@_TOKEN
@option("--timescaledb/--no-timescaledb", default=False, help=text("grafana.opt_timescaledb"))
@_PROFILES
def apply_command(grafana_url: str, grafana_token: str, profiles: Path | None, *, timescaledb: bool) -> None:
    from grafana.apply import Database, apply
    from grafana.dashboard import build
    from iot_core.profiles import load

    dsn = environment("IOT_GRAFANA_DSN")
    database = Database.parse(dsn, timescaledb=timescaledb) if dsn else None
    if database is None:
        click.echo(text("grafana.no_database"), err=True)
    dashboard = build(load(profiles).classes, language())
    address = apply(grafana_url, grafana_token, dashboard, text("grafana.folder"), database)
    click.echo(text("grafana.applied", url=address))


@grafana.command(
    "export",
    cls=Command,
    help=text("grafana.help_export"),
    examples=["iot grafana export ./grafana-files", "iot grafana export ./grafana-files --lang vi"],
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_PROFILES
def export_command(folder: Path, profiles: Path | None) -> None:
    from grafana.dashboard import build
    from grafana.export import export
    from iot_core.profiles import load

    try:
        written = export(folder, build(load(profiles).classes, language()), text("grafana.folder"))
    except OSError as exc:
        raise RequestError("grafana.cannot_write", path=folder, detail=reason(exc)) from exc
    for path in written:
        click.echo(path)
