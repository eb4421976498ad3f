"""Keys as parameters: new ones are checked here; those of devices the shell completes from the core, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from iot_core.errors import IotError
from iot_core.messages import text
from iot_core.model import is_key

if TYPE_CHECKING:
    from iot_core.cli.session import Endpoint

__all__ = ["DEVICE", "MODEL", "NEW_KEY"]

PATIENCE_S = 1.5


class DeviceKey(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """The key of a device."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the keys that begin as typed; nothing when the core does not answer at once."""
        from iot_core.cli.session import endpoint

        try:
            with ctx.scope(cleanup=False):
                where = endpoint()
            names = asyncio.run(asyncio.wait_for(_keys(where, incomplete), PATIENCE_S))
        except (IotError, OSError, TimeoutError):
            return []
        return [CompletionItem(key, help=name) for key, name in names]


async def _keys(where: Endpoint, begin: str) -> list[tuple[str, str]]:
    from iot_core.client import Client

    async with Client(where.url, where.token, fingerprint=where.fingerprint) as client:
        found = await client.devices(search=begin or None, limit=200)
    return [(device.key, device.name) for device in found.items if device.key.startswith(begin)]


class NewKey(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A key that is being given, for ever."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form before anything is asked of the core."""
        key = str(value)
        if not is_key(key):
            self.fail(text("cli.expect_key"), param, ctx)
        return key


class ModelKey(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A model, or a file of one."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the models that begin as typed; files where a path is begun."""
        from iot_core.cli.profile import own_folder
        from iot_core.profiles.load import load_tolerant

        if "/" in incomplete or incomplete.startswith("."):
            return [CompletionItem(incomplete, type="file")]
        try:
            known = load_tolerant(own_folder()).all()
        except IotError:
            return []
        return [CompletionItem(each.model, help=each.title.en) for each in known if each.model.startswith(incomplete)]


DEVICE = DeviceKey()
MODEL = ModelKey()
NEW_KEY = NewKey()
