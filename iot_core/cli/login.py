"""`iot login`, `iot logout`, `iot context`: cores elsewhere, each with a token of one's own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import sys
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

import click
import msgspec

from iot_core.cli import contexts
from iot_core.cli.base import Command, Group, option
from iot_core.cli.contexts import LOCAL, Context, Contexts
from iot_core.cli.keys import CONTEXT
from iot_core.cli.output import Column, is_for_people, line, note, show_one, show_rows
from iot_core.errors import ForbiddenError, RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["context", "login", "logout"]

_PORT = 8080
_CONNECT_S = 10


@click.command(
    "login",
    cls=Command,
    help=text("login.help"),
    examples=[
        "iot login https://iot.example.vn --user an",
        "iot login https://10.20.0.5:8080 --user an --name site",
        "iot login https://iot.example.vn --token-file token.txt",
    ],
)
@click.argument("address", metavar="URL")
@option("--user", metavar="NAME", help=text("login.opt_user"))
@option("--name", metavar="CONTEXT", help=text("login.opt_name"))
@option("--fingerprint", metavar="SHA256", help=text("login.opt_fingerprint"))
@option("--password-file", type=click.File(), metavar="FILE", help=text("login.opt_password_file"))
@option("--token-file", type=click.File(), metavar="FILE", help=text("login.opt_token_file"))
@option("--days", type=click.IntRange(1, 365), default=90, metavar="N", help=text("login.opt_days"))
@option("--plain", is_flag=True, help=text("login.opt_plain"))
def login(
    address: str,
    *,
    user: str | None,
    name: str | None,
    fingerprint: str | None,
    password_file: TextIO | None,
    token_file: TextIO | None,
    days: int,
    plain: bool,
) -> None:
    url, host = _checked(address, plain=plain)
    pinned = _trusted(url, fingerprint) if url.startswith("https:") else ""
    if token_file is not None:
        token = token_file.read().strip()
    else:
        user = user or click.prompt(text("login.ask_user"), err=True)
        token = _token(url, pinned, user, _password(password_file), days)
    me = asyncio.run(_me(url, pinned, token))
    known = contexts.read()
    name = name or host
    kept = Context(url=url, token=token, user=me.name, fingerprint=pinned)
    contexts.write(Contexts(current=name, contexts={**known.contexts, name: kept}))
    said = {"context": name, "url": url, "user": me.name, "role": me.role.value, "fingerprint": pinned}
    show_one(said, lambda: line("login.done", user=me.name, role=me.role.value, url=url, name=name))


@click.command("logout", cls=Command, help=text("login.help_logout"), examples=["iot logout", "iot logout site"])
@click.argument("name", type=CONTEXT, metavar="[CONTEXT]", required=False)
def logout(name: str | None) -> None:
    known = contexts.read()
    name = name or known.current
    if not name:
        raise RequestError("login.none_current")
    found = known.named(name)
    ended = asyncio.run(_end(found))
    _forget(known, name)
    show_one({"context": name, "ended": ended}, lambda: line("login.out" if ended else "login.out_here", name=name))


@click.group(
    "context",
    cls=Group,
    help=text("login.help_context"),
    examples=["iot context list", "iot context use site", "iot context use local", "iot context remove site"],
)
def context() -> None:
    pass


_COLUMNS: list[Column[dict[str, object]]] = [
    Column("login.col_current", lambda row: "*" if row["current"] else ""),
    Column("cli.col_name", lambda row: row["name"]),
    Column("cli.col_url", lambda row: row["url"], raw=True),
    Column("login.col_user", lambda row: row["user"]),
    Column("login.col_certificate", lambda row: row["fingerprint"] and str(row["fingerprint"])[:23] + "…", raw=True),
]


@context.command("list", help=text("login.help_list"), examples=["iot context list"])
def list_() -> None:
    known = contexts.read()
    rows = [
        {
            "name": name,
            "url": each.url,
            "user": each.user,
            "fingerprint": each.fingerprint,
            "current": name == known.current,
        }
        for name, each in sorted(known.contexts.items())
    ]
    show_rows(rows, _COLUMNS, nothing="login.none")


@context.command("use", help=text("login.help_use"), examples=["iot context use site", "iot context use local"])
@click.argument("name", type=CONTEXT, metavar="CONTEXT")
def use(name: str) -> None:
    known = contexts.read()
    if name != LOCAL:
        known.named(name)
    contexts.write(msgspec.structs.replace(known, current="" if name == LOCAL else name))
    show_one({"context": name}, lambda: line("login.used", name=name))


@context.command("remove", help=text("login.help_remove"), examples=["iot context remove site"])
@click.argument("name", type=CONTEXT, metavar="CONTEXT")
def remove(name: str) -> None:
    known = contexts.read()
    known.named(name)
    _forget(known, name)
    show_one({"removed": name}, lambda: line("login.removed", name=name))


def _forget(known: Contexts, name: str) -> None:
    rest = {other: each for other, each in known.contexts.items() if other != name}
    contexts.write(Contexts(current="" if known.current == name else known.current, contexts=rest))


def _checked(address: str, *, plain: bool) -> tuple[str, str]:
    """Read the address; what is not TLS carries the token in clear, so it must be this machine or asked for."""
    if "://" not in address:
        address = f"https://{address}"
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RequestError("api.bad_url", url=address)
    if parts.username or parts.password:
        raise RequestError("login.userinfo")
    if parts.scheme == "http" and not plain and not _is_here(parts.hostname):
        raise RequestError("login.plain", url=address)
    return f"{parts.scheme}://{parts.netloc}".rstrip("/"), parts.hostname


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusted(url: str, given: str | None) -> str:
    """Give the fingerprint to pin; empty where this system trusts the certificate. Asks a person, once."""
    from iot_core.api.pinned import fingerprint_bytes, spelled_fingerprint

    trusted, digest = _look(url)
    shown = spelled_fingerprint(digest)
    if given is not None:
        if fingerprint_bytes(given) != digest:
            raise RequestError("login.other_certificate", url=url, shown=shown)
        return shown
    if trusted:
        return ""
    known = contexts.read().of_url(url)
    if known is not None and known.fingerprint:
        if known.fingerprint != shown:
            raise RequestError("login.other_certificate", url=url, shown=shown)
        return shown
    if not (is_for_people() and sys.stdin.isatty()):
        raise RequestError("login.unasked", url=url, shown=shown)
    note("login.first_time", url=url)
    click.echo(f"  SHA-256 {shown}", err=True)
    click.confirm(text("login.ask_trust"), abort=True, err=True)
    return shown


def _look(url: str) -> tuple[bool, bytes]:
    """Say whether this system trusts the certificate that answers there, and its SHA-256. Raises RequestError."""
    import hashlib

    parts = urlsplit(url)
    where = (parts.hostname or "", parts.port or 443)
    try:
        for strict in (True, False):
            rules = ssl.create_default_context()
            if not strict:  # only to see its fingerprint; nothing is sent
                rules.check_hostname = False
                rules.verify_mode = ssl.CERT_NONE
            try:
                with (
                    socket.create_connection(where, _CONNECT_S) as plain,
                    rules.wrap_socket(plain, server_hostname=where[0]) as secured,
                ):
                    return strict, hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()
            except ssl.SSLCertVerificationError:
                continue
    except TimeoutError as exc:
        raise RequestError("api.no_answer", url=url, seconds=_CONNECT_S) from exc
    except (OSError, UnicodeError) as exc:
        raise RequestError("api.unreachable", url=url, detail=getattr(exc, "strerror", None) or str(exc)) from exc
    raise RequestError("login.untrusted", url=url)


def _password(given: TextIO | None) -> str:
    if given is not None:
        return given.read().rstrip("\r\n")
    return str(click.prompt(text("login.ask_password"), hide_input=True, err=True))


def _token(url: str, pinned: str, user: str, password: str, days: int) -> str:
    from iot_core.api import shapes
    from iot_core.client import Client

    async def get() -> str:
        body = shapes.LoginNewToken(user=user, password=password, name=f"iot @ {socket.gethostname()}"[:200], days=days)
        async with Client(url, fingerprint=pinned) as client:
            return (await client.login(body)).secret

    return asyncio.run(get())


async def _me(url: str, pinned: str, token: str) -> shapes.Me:
    from iot_core.client import Client

    async with Client(url, token, fingerprint=pinned) as client:
        return await client.me()


async def _end(found: Context) -> bool:
    """End the token at the core; False when that could not be reached, or does not know it any more."""
    from iot_core.client import Client

    try:
        async with Client(found.url, found.token, fingerprint=found.fingerprint, retries=0) as client:
            await client.log_out()
    except ForbiddenError:
        return True
    except RequestError:
        return False
    return True
