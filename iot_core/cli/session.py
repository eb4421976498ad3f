"""Which core a command talks to, and the way to ask it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from iot_core.cli import contexts
from iot_core.cli.base import Globals
from iot_core.cli.endings import Unreachable
from iot_core.errors import ConfigError, ForbiddenError, NotFoundError
from iot_core.settings import default_state_dir, environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot_core.client import Client
    from iot_core.state import StateDir

__all__ = ["Endpoint", "ask", "chosen", "endpoint", "local_core", "state_dir"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a core listens, the token to show it, and the certificate it must show (empty: one this system trusts)."""

    url: str
    token: str
    fingerprint: str = ""


def chosen() -> Globals:
    """Give the common options of the running command."""
    return click.get_current_context().ensure_object(Globals)


def state_dir() -> Path:
    """Give the state directory that the command means."""
    asked = chosen().state
    return Path(asked).expanduser() if asked else default_state_dir()


def endpoint() -> Endpoint:
    """Choose the core: --url or IOT_URL; --state or IOT_STATE; the context in use; else the one on this machine.

    A token is shown only where it belongs: the local core's to the local core, a context's to its address, never to
    another address that was typed.
    """
    options = chosen()
    url = (options.url or environment("IOT_URL")).rstrip("/")
    token = _checked(options.token or environment("IOT_TOKEN"))
    pinned = environment("IOT_FINGERPRINT")
    if url and token:
        return Endpoint(url, token, pinned)
    known = None if options.state or environment("IOT_STATE") else contexts.read()
    if known is not None:
        found = known.of_url(url) if url else known.contexts.get(known.current)
        if found is not None:
            return Endpoint(found.url, token or found.token, found.fingerprint)
    here = _local(needed=not url)
    if here is None:
        return Endpoint(url, token, pinned)
    if not url:
        return Endpoint(here.url, token or here.token, here.fingerprint)
    return Endpoint(url, here.token, here.fingerprint) if here.url == url else Endpoint(url, "", pinned)


def _checked(token: str) -> str:
    """Take the line end off that a file or `$(cat)` adds; what else cannot stand in a header is no token."""
    bare = token.strip()
    if not (bare.isascii() and bare.isprintable()):
        raise ConfigError("cli.bad_token")
    return bare


def ask(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client of the chosen core."""
    where = endpoint()

    async def inside() -> T:
        from iot_core.cli.near import better
        from iot_core.cli.unanswered import Unanswered
        from iot_core.client import Client

        async with Client(
            where.url,
            where.token,
            fingerprint=where.fingerprint,
            retrying=_say_retry,
            unanswered=Unanswered(where.url, where.token) if where.token else None,
        ) as client:
            try:
                return await work(client)
            except NotFoundError as error:
                raise await better(client, error) from error
            except ForbiddenError as error:
                if where.token or error.code != "api.unauthorized":
                    raise
                raise ForbiddenError("cli.no_token", url=where.url) from error

    return asyncio.run(inside())


def _say_retry(attempt: int, most: int) -> None:
    from iot_core.cli.output import note

    note("login.retry", attempt=attempt, most=most)


def local_core(*, needed: bool = True) -> StateDir | None:
    """Give the state directory of the core that runs here; when it is `needed` and none runs, say what to do."""
    from iot_core.state import StateDir

    directory = StateDir(state_dir())
    if directory.running() is not None:
        return directory
    if needed:
        raise Unreachable("cli.state_forbidden" if _closed(directory) else "cli.no_core", state=directory.path)
    return None


def _local(*, needed: bool) -> Endpoint | None:
    """Read what a running core left in its state directory."""
    directory = local_core(needed=needed)
    running = None if directory is None else directory.running()
    if directory is None or running is None:
        return None
    return Endpoint(running.url.rstrip("/"), directory.read_token(), running.fingerprint)


def _closed(directory: StateDir) -> bool:
    """Say whether a core may run here that belongs to somebody else."""
    try:
        return directory.core_file.exists() and not os.access(directory.core_file, os.R_OK)
    except PermissionError:
        return True
