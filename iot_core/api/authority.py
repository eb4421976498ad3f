"""Our own certificate authority: what it is, what it issued, revoke."""

from typing import Any

import msgspec

from iot_core.api import shapes
from iot_core.api.devices import let_in
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, delete, get, post
from iot_core.api.within import require_devices
from iot_core.errors import NotFoundError
from iot_core.registry.authority import Authority


async def init(call: Call[NoQuery]) -> shapes.AuthorityShown:
    """Make the authority if there is none; give its certificate."""
    async with call.connection() as connection:
        return shapes.AuthorityShown(certificate=await _authority(call).ensure(connection, by=call.who.name))


async def issue(call: Call[NoQuery], body: shapes.CertificateNew) -> shapes.CertificateIssued:
    """Issue a client certificate for a device. A key that is made for it is in this answer and nowhere else."""
    key, authority = call.path["key"], _authority(call)
    async with call.connection() as connection:
        issued = await authority.issue(connection, key, days=body.days, csr=body.csr, by=call.who.name)
        own = await authority.certificate(connection)
    return shapes.CertificateIssued(
        device=key,
        serial=issued.serial,
        not_after=issued.not_after,
        certificate=issued.certificate,
        key=issued.key,
        authority=own or "",
    )


async def list_certificates(call: Call[NoQuery]) -> shapes.Certificates:
    """List what was issued, the newest first."""
    async with call.connection() as connection:
        found = await Authority.certificates(connection, within=call.areas)
    return shapes.Certificates(
        items=tuple(msgspec.convert(each, shapes.Certificate, from_attributes=True) for each in found)
    )


async def revoke(call: Call[NoQuery]) -> shapes.Nothing:
    """Revoke a certificate; an open connection of its device ends."""
    async with call.connection() as connection:
        device = await Authority.device_of(connection, call.path["serial"])
        await require_devices(call, connection, [] if device is None else [device])
        await _authority(call).revoke(connection, call.path["serial"], by=call.who.name)
    await let_in(call)
    return shapes.Nothing()


def _authority(call: Call[Any]) -> Authority:
    if call.services.authority is None:
        raise NotFoundError("ca.none")
    return call.services.authority


routes = (
    post("/ca", init, Action.BATCHES),
    post("/devices/{key}/certificate", issue, Action.DEVICES),
    get("/certificates", list_certificates, action=Action.BATCHES, reach=Reach.OWN),
    delete("/certificates/{serial}", revoke, Action.BATCHES, reach=Reach.OWN),
)
