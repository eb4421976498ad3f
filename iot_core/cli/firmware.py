"""`iot firmware`: whose signature counts, signed images; campaigns are in campaign.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import MODEL
from iot_core.cli.output import Column, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.errors import RequestError, StartError
from iot_core.messages import text
from iot_core.model import firmware_text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["firmware"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LARGEST = 5 * 1024 * 1024

SIGNERS: list[Column[shapes.FirmwareSignerKnown]] = [
    Column("cli.col_name", lambda row: row.name),
    Column("firmware.col_public", lambda row: row.public_key),
    Column("firmware.col_added", lambda row: local(row.added_at), drop=2),
    Column("firmware.col_revoked", lambda row: local(row.revoked_at) if row.revoked_at else "-", drop=1),
]
IMAGES: list[Column[shapes.FirmwareImage]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("firmware.col_model", lambda row: row.model),
    Column("firmware.col_version", lambda row: row.version),
    Column("firmware.col_size", lambda row: row.size, right=True),
    Column("firmware.col_signer", lambda row: row.signer),
    Column("firmware.col_added", lambda row: local(row.added_at), drop=1),
]


@click.group(
    "firmware",
    cls=Group,
    help=text("firmware.help"),
    examples=[
        "iot firmware key release.pem",
        "iot firmware add lamp-1.4.bin --model native-streetlight --version 1.4 --key release.pem",
        "iot firmware campaign 3 --where 'class=streetlight and area=hong-gai' --canary 0.05",
        "iot firmware status 2",
    ],
)
def firmware() -> None:
    pass


@firmware.command("key", help=text("firmware.help_key"), examples=["iot firmware key release.pem"])
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path) -> None:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    made = Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(pem)
    except FileExistsError:
        raise RequestError("firmware.file_exists", file=file) from None
    public = made.public_key().public_bytes_raw().hex()
    show_one({"public_key": public}, lambda: line("firmware.key_made", file=file, public=public))


@firmware.command("trust", help=text("firmware.help_trust"), examples=["iot firmware trust acme 5f0c2a91..."])
@click.argument("name")
@click.argument("public_key", metavar="HEX")
def trust(name: str, public_key: str) -> None:
    try:
        raw = bytes.fromhex(public_key)
    except ValueError:
        raise RequestError("firmware.bad_key") from None
    ask(lambda client: client.trust_signer(name, raw))
    show_one({"trusted": name}, lambda: line("firmware.trusted", name=name))


@firmware.command("signers", help=text("firmware.help_signers"), examples=["iot firmware signers"])
def signers() -> None:
    show_rows(ask(lambda client: client.firmware_signers()).items, SIGNERS, nothing="firmware.no_signers")


@firmware.command("revoke", help=text("firmware.help_revoke"), examples=["iot firmware revoke acme"])
@click.argument("name")
def revoke(name: str) -> None:
    ask(lambda client: client.revoke_signer(name))
    show_one({"revoked": name}, lambda: line("firmware.revoked", name=name))


@firmware.command(
    "add",
    help=text("firmware.help_add"),
    examples=[
        "iot firmware add lamp-1.4.bin --model native-streetlight --version 1.4 --key release.pem",
        "iot firmware add lamp-1.4.bin --model native-streetlight --version 1.4 --signature lamp-1.4.sig",
    ],
)
@click.argument("file", type=_FILE)
@option("--model", required=True, type=MODEL, metavar="MODEL", help=text("firmware.opt_model"))
@option("--version", required=True, metavar="TEXT", help=text("firmware.opt_version"))
@option("--key", "key_file", type=_FILE, metavar="FILE", help=text("firmware.opt_key"))
@option("--signature", "signature_file", type=_FILE, metavar="FILE", help=text("firmware.opt_signature"))
def add(file: Path, *, model: str, version: str, key_file: Path | None, signature_file: Path | None) -> None:
    image = file.read_bytes()
    if not 0 < len(image) <= _LARGEST:
        raise RequestError("firmware.bad_size", file=file, size=len(image), most=_LARGEST)
    if key_file is not None and signature_file is None:
        signature = _sign(key_file, model, version, image)
    elif signature_file is not None and key_file is None:
        signature = signature_file.read_bytes()
    else:
        raise RequestError("firmware.key_or_signature")
    added = ask(lambda client: client.add_firmware(model, version, image, signature))
    show_one(added, lambda: line("firmware.added", id=added.id, model=model, version=version, signer=added.signer))


@firmware.command(
    "list", help=text("firmware.help_list"), examples=["iot firmware list", "iot firmware list --output json"]
)
def list_() -> None:
    show_rows(ask(lambda client: client.firmware()).items, IMAGES, nothing="firmware.none")


def _sign(key_file: Path, model: str, version: str, image: bytes) -> bytes:
    """Sign on this machine: the private key never goes to the core."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    from hashlib import sha256

    try:
        loaded = load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise RequestError("firmware.bad_key_file", file=key_file) from None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise RequestError("firmware.bad_key_file", file=key_file)
    made: bytes = loaded.sign(firmware_text(model, version, sha256(image).digest()))
    return made
