"""`iot grafana`: speaks to Grafana with Grafana's own token; ours is never sent there."""

from __future__ import annotations

from pathlib import Path

import click

from iot_core.errors import RequestError
from iot_core.messages import LANGUAGES, language, text
from iot_core.settings import environment

_LANG = click.option("--lang", type=click.Choice(LANGUAGES), default=language, help=text("grafana.opt_lang"))
_PROFILES = click.option(
    "--profiles", type=click.Path(exists=True, file_okay=False, path_type=Path), help=text("grafana.opt_profiles")
)


@click.group("grafana", help=text("grafana.help"))
def grafana() -> None:
    """Group the two commands."""


@grafana.command("apply", help=text("grafana.help_apply"))
@click.option("--url", envvar="GRAFANA_URL", required=True, help=text("grafana.opt_url"))
@click.option("--token", envvar="GRAFANA_TOKEN", required=True, help=text("grafana.opt_token"))
@click.option("--timescaledb/--no-timescaledb", default=False, help=text("grafana.opt_timescaledb"))
@_LANG
@_PROFILES
def apply_command(url: str, token: str, lang: str, profiles: Path | None, *, timescaledb: bool) -> None:
    from grafana.apply import Database, apply  # noqa: PLC0415 - `iot --help` must not wait for the SDK
    from grafana.dashboard import build  # noqa: PLC0415
    from iot_core.profiles import load  # noqa: PLC0415

    dsn = environment("IOT_GRAFANA_DSN")
    database = Database.parse(dsn, timescaledb=timescaledb) if dsn else None
    if database is None:
        click.echo(text("grafana.no_database"), err=True)
    address = apply(url, token, build(load(profiles).classes, lang), text("grafana.folder", lang), database)
    click.echo(text("grafana.applied", url=address))


@grafana.command("export", help=text("grafana.help_export"))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_LANG
@_PROFILES
def export_command(folder: Path, lang: str, profiles: Path | None) -> None:
    from grafana.dashboard import build  # noqa: PLC0415 - as above
    from grafana.export import export  # noqa: PLC0415
    from iot_core.profiles import load  # noqa: PLC0415

    try:
        written = export(folder, build(load(profiles).classes, lang), text("grafana.folder", lang))
    except OSError as exc:
        raise RequestError("grafana.cannot_write", path=folder, detail=exc.strerror) from exc
    for path in written:
        click.echo(path)
