"""The CoAP server: one socket, one site, bounded work.

datagram -> Express (a plain POST of a known sender) ------------------------------.
   |                                                                               |
   '-> Endpoint (duplicates) -> Telemetry (who, what format, how large, blocks) -> emit -> done -> 2.04
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, cast

import structlog
from aiocoap import resource

from drivers.coap import telemetry
from drivers.coap.claims import Claims
from drivers.coap.client import Client
from drivers.coap.endpoint import LOGGER, Endpoint, keep_secrets_out_of_the_log
from drivers.coap.express import Express
from drivers.coap.inflight import InFlight
from drivers.coap.oscore import Contexts, Protected
from drivers.coap.telemetry import Telemetry
from iot_core.driver import Driver, DriverContext, Emit, Units
from iot_core.errors import CommandRejected, StartError
from iot_core.model import CommandState

if TYPE_CHECKING:
    from iot_core.model import Command, MountedUnit, Uplink, Value

log = structlog.get_logger()

REQUESTS_IN_FLIGHT = 1_000
PLAIN_IN_FLIGHT = 4_000
LAST_ANSWERS_S = 1.0
"""How long a stopping server still waits for commits that would let it answer."""


class CoapDriver(Driver):
    """Takes `POST /v1/KEY/telemetry?token=SECRET`, and watches devices that are servers themselves."""

    scheme: ClassVar[str] = "coap"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._host = context.settings.coap.host
        self._port = context.settings.coap.port
        self._listening = asyncio.Event()
        self._client = Client(context)

    async def run(self, units: Units, emit: Emit) -> None:
        """Serve until cancelled; then answer what is already on its way to the store."""
        keep_secrets_out_of_the_log()
        address = await _free_address(self._host, self._port)
        in_flight = InFlight(REQUESTS_IN_FLIGHT)
        contexts = Contexts(self.context.credentials, lambda: units.with_scheme("iot"))
        server = await Endpoint.create_server_context(
            self._site(units, emit, in_flight, contexts), bind=address, loggername=LOGGER, transports=[_transport()]
        )
        express = Express(self.context, emit, server.messages, most=PLAIN_IN_FLIGHT, patience_s=telemetry.PATIENCE_S)
        server.harden(self.context.count, express.received)
        log.info("coap.listening", host=self._host, port=self._port)
        self._listening.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(express.run(), name="coap express")
                group.create_task(self._client.run(units, emit), name="coap client")
                group.create_task(_follow(units, contexts), name="coap oscore")
        finally:
            self._listening.clear()
            await asyncio.gather(in_flight.settle(LAST_ANSWERS_S), express.settle(LAST_ANSWERS_S))
            await server.shutdown()

    async def send(self, unit: MountedUnit, command: Command) -> CommandState:
        """Put a command to a device that is a server; a sleeping one gets it when it is heard. As `Client.send`."""
        profile = self.context.profiles.get(unit.profile)
        own = unit.address.removeprefix("coap://")
        made = profile.downlink(command.name, cast("Mapping[str, Value]", command.params), own)
        if not made.method:
            raise CommandRejected("driver.no_commands", device=unit.device_key, command=command.name, protocol="CoAP")
        await self._client.send(unit, made, command.expires)
        return CommandState.DELIVERED

    async def read(self, unit: MountedUnit) -> Uplink:
        """Ask a device that is a server for its first resource now."""
        return await self._client.read(unit)

    async def listening(self) -> None:
        """Wait until the port is open."""
        await self._listening.wait()

    def address_line(self) -> str:
        """Say where devices post."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"coap://{host}:{self._port}/v1/KEY/telemetry"

    def _site(self, units: Units, emit: Emit, in_flight: InFlight, contexts: Contexts) -> Protected:
        site = resource.Site()
        taking = Telemetry(self.context, units, emit, in_flight)
        site.add_resource(["v1"], taking)
        if self.context.claim is not None:
            site.add_resource(["v1", "claim"], Claims(self.context.claim, self.context.count, in_flight))
        site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader, None))
        return Protected(site, contexts, taking.protected, self.context.count)


async def _follow(units: Units, contexts: Contexts) -> None:
    """Have keys looked at again whenever the registry changed."""
    while True:
        await units.changed()
        contexts.registry_changed()


def _transport() -> str:
    """Prefer aiocoap's full UDP transport; it needs a kernel with IPv6, even to serve IPv4 alone."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return "simplesocketserver"
    return "udp6"


async def _free_address(host: str, port: int) -> tuple[str, int]:
    """Resolve where to listen. Raises StartError when it is not ours or not free.

    aiocoap binds with SO_REUSEPORT, which would share another core's port silently; and of a name with several
    addresses (localhost) it takes IPv6, where devices that know IPv4 alone would not find it.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except socket.gaierror as exc:
        raise StartError("driver.coap_no_such_host", host=host) from exc
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        try:
            probe.bind(address)
        except OSError as exc:
            code = "driver.coap_port_in_use" if exc.errno == errno.EADDRINUSE else "driver.coap_cannot_listen"
            raise StartError(code, host=host, port=port, detail=exc.strerror or str(exc)) from exc
    return str(address[0]), port
