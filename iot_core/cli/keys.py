"""Keys as parameters: new ones are checked here; known ones the shell completes from the core, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from iot_core.cli import contexts
from iot_core.cli.words import headline
from iot_core.errors import IotError
from iot_core.messages import text, title
from iot_core.model import is_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from iot_core.client import Client
    from iot_core.profiles.load import Profiles

    Offers = Iterable[tuple[object, str]]
    """What may stand there, and what it is."""
    Ask = Callable[[Client, str], Awaitable[Offers]]

__all__ = [
    "ALARM",
    "AREA",
    "BATCH",
    "CAMPAIGN",
    "CENTER",
    "CHAIN",
    "CLASS",
    "CONTEXT",
    "DEVICE",
    "IMAGE",
    "MODEL",
    "NEW_KEY",
    "SCHEDULE",
    "TARGET",
    "USER",
]

PATIENCE_S = 1.5


class Known(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """The key of something that the core knows."""

    name = "key"

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer what begins as typed; nothing when the core does not answer at once."""
        return _offered(ctx, self._ask, incomplete)


class KnownNumber(click.types.IntParamType):
    """The number of something that the core knows."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer what there is; nothing when the core does not answer at once."""
        return _offered(ctx, self._ask, incomplete)


def _offered(ctx: click.Context, ask: Ask, begin: str) -> list[CompletionItem]:
    from iot_core.cli.session import endpoint
    from iot_core.client import Client

    async def answer() -> Offers:
        async with Client(where.url, where.token, fingerprint=where.fingerprint) as client:
            return await ask(client, begin)

    try:
        with ctx.scope(cleanup=False):
            where = endpoint()
        found = asyncio.run(asyncio.wait_for(answer(), PATIENCE_S))
    except (IotError, OSError, TimeoutError):
        return []
    return [CompletionItem(str(key), help=said) for key, said in found if str(key).startswith(begin)]


async def _devices(client: Client, begin: str) -> Offers:
    return [(each.key, each.name) for each in (await client.devices(search=begin or None, limit=200)).items]


async def _areas(client: Client, _: str) -> Offers:
    return [(each.key, each.name) for each in (await client.areas()).items]


async def _alarms(client: Client, _: str) -> Offers:
    found = await client.alarms(open_only=True, limit=50)
    return [(each.id, f"{headline(each.title)} {each.device or ''}".rstrip()) for each in found.items]


async def _images(client: Client, _: str) -> Offers:
    return [(each.id, f"{each.model} {each.version}") for each in (await client.firmware()).items]


async def _campaigns(client: Client, _: str) -> Offers:
    return [(each.id, f"{each.model} {each.version}") for each in (await client.campaigns()).items]


async def _targets(client: Client, _: str) -> Offers:
    return [(each.key, each.kind) for each in (await client.push_targets()).items]


async def _chains(client: Client, _: str) -> Offers:
    return [(each.key, "") for each in (await client.escalations()).items]


async def _centers(client: Client, _: str) -> Offers:
    return [(each.key, each.name) for each in (await client.centers()).items]


async def _schedules(client: Client, _: str) -> Offers:
    return [(each.key, each.selector) for each in (await client.schedules()).items]


async def _users(client: Client, _: str) -> Offers:
    return [(each.name, each.title) for each in (await client.users()).items]


async def _batches(client: Client, _: str) -> Offers:
    return [(each.key, each.name) for each in (await client.batches()).items]


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
        if "/" in incomplete or incomplete.startswith("."):
            return [CompletionItem(incomplete, type="file")]
        models = (each for each in _profiles().all() if each.model.startswith(incomplete))
        return [CompletionItem(each.model, help=title(each.title)) for each in models]


class ClassKey(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A device class."""

    name = "class"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the classes that begin as typed."""
        classes = _profiles().classes.values()
        return [CompletionItem(each.key, help=title(each.title)) for each in classes if each.key.startswith(incomplete)]


class ContextName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A context: kept on this computer, so offered whether its core answers or not."""

    name = "context"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the contexts that begin as typed."""
        try:
            known = contexts.read().contexts
        except IotError:
            return []
        return [CompletionItem(name, help=each.url) for name, each in known.items() if name.startswith(incomplete)]


def _profiles() -> Profiles:
    from iot_core.cli.profile import own_folder
    from iot_core.profiles.load import load_tolerant

    try:
        return load_tolerant(own_folder())
    except IotError:  # a setting that is wrong here takes nothing from the models that are shipped
        return load_tolerant(None)


ALARM = KnownNumber(_alarms)
AREA = Known(_areas)
BATCH = Known(_batches)
CAMPAIGN = KnownNumber(_campaigns)
CENTER = Known(_centers)
CHAIN = Known(_chains)
CLASS = ClassKey()
CONTEXT = ContextName()
DEVICE = Known(_devices)
IMAGE = KnownNumber(_images)
MODEL = ModelKey()
NEW_KEY = NewKey()
SCHEDULE = Known(_schedules)
TARGET = Known(_targets)
USER = Known(_users)
