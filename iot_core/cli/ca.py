"""`iot ca`: a small certificate authority for the broker and for devices' client certificates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["ca"]

COLUMNS: list[Column[shapes.Certificate]] = [
    Column("ca.col_serial", lambda row: row.serial, whole=True),
    Column("ca.col_device", lambda row: row.device),
    Column("ca.col_until", lambda row: local(row.not_after)),
    Column("ca.col_revoked", lambda row: local(row.revoked_at), lambda row: "red" if row.revoked_at else ""),
]


@click.group(
    "ca",
    cls=Group,
    help=text("ca.help"),
    examples=["iot ca init > city-ca.pem", "iot ca issue wm-0102 --out certificates", "iot ca revoke 5f0c2a..."],
)
def ca() -> None:
    pass


@ca.command("init", help=text("ca.help_init"), examples=["iot ca init", "iot ca init > city-ca.pem"])
def init() -> None:
    made = ask(lambda client: client.init_ca())
    show_one(made, lambda: click.echo(made.certificate, nl=False))


@ca.command(
    "issue",
    help=text("ca.help_issue"),
    examples=["iot ca issue wm-0102 --out certificates", "iot ca issue wm-0102 --csr wm-0102.csr --days 730"],
)
@click.argument("key", type=DEVICE)
@option("--days", type=click.IntRange(1, 5475), default=3650, metavar="N", help=text("ca.opt_days"))
@option("--csr", type=click.File(), metavar="FILE", help=text("ca.opt_csr"))
@option("--out", type=click.Path(file_okay=False, path_type=Path), default=".", metavar="DIR", help=text("ca.opt_out"))
def issue(key: str, *, days: int, csr: TextIO | None, out: Path) -> None:
    request = None if csr is None else csr.read()
    files = [out / f"{key}.pem", out / f"{key}.key", out / "ca.pem"]
    if files[0].exists() or (request is None and files[1].exists()):
        raise RequestError("ca.file_there", file=files[0] if files[0].exists() else files[1])
    issued = ask(lambda client: client.issue_certificate(key, days=days, csr=request))
    out.mkdir(parents=True, exist_ok=True)
    _write(files[0], issued.certificate)
    if issued.key is not None:
        _write(files[1], issued.key)
    files[2].write_text(issued.authority, encoding="ascii")
    show_one(issued, lambda: _say(issued, files))


@ca.command("list", help=text("ca.help_list"), examples=["iot ca list", "iot ca list --output csv"])
def list_() -> None:
    found = ask(lambda client: client.certificates())
    show_rows(found.items, COLUMNS, nothing="ca.no_certificates")


@ca.command("revoke", help=text("ca.help_revoke"), examples=["iot ca revoke 5f0c2a91"])
@click.argument("serial", metavar="SERIAL")
def revoke(serial: str) -> None:
    ask(lambda client: client.revoke_certificate(serial))
    show_one({"revoked": serial}, lambda: line("ca.revoked", serial=serial))


def _write(file: Path, content: str) -> None:
    """Write a file that only its owner can read, and that was not there."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as new:
        new.write(content)


def _say(issued: shapes.CertificateIssued, files: list[Path]) -> None:
    line("ca.issued", key=issued.device, until=local(issued.not_after))
    fact_lines(
        [
            ("ca.into_certificate", files[0]),
            ("ca.into_key", files[1] if issued.key is not None else text("ca.own_key")),
            ("ca.into_authority", files[2]),
            ("ca.col_serial", issued.serial),
        ]
    )
