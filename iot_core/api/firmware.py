"""Firmware: trusted signers, signed images, campaigns."""

from typing import Any

import msgspec

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, delete, get, post
from iot_core.errors import NotFoundError
from iot_core.messages import text
from iot_core.registry import campaigns, firmware

_LARGEST = 7 * 1024 * 1024
_SAMPLE = 10


async def signers(call: Call[NoQuery]) -> shapes.FirmwareSigners:
    """List those whose signature counts, and whose counted once."""
    async with call.connection() as connection:
        found = await firmware.signers(connection)
    return shapes.FirmwareSigners(
        items=tuple(
            shapes.FirmwareSignerKnown(**(msgspec.structs.asdict(each) | {"public_key": each.public_key.hex()}))
            for each in found
        )
    )


async def trust(call: Call[NoQuery], body: shapes.FirmwareSigner) -> shapes.Nothing:
    """Trust a signer's Ed25519 key from now on."""
    async with call.connection() as connection:
        await firmware.trust(connection, body.name, body.public_key, by=call.who.name)
    return shapes.Nothing()


async def revoke(call: Call[NoQuery]) -> shapes.Nothing:
    """Trust a signer no more: no image of theirs is taken, and none that is here begins a campaign."""
    async with call.connection() as connection:
        await firmware.revoke(connection, call.path["name"], by=call.who.name)
    return shapes.Nothing()


async def images(call: Call[NoQuery]) -> shapes.FirmwareImages:
    """List images, the newest first."""
    async with call.connection() as connection:
        found = await firmware.images(connection)
    return shapes.FirmwareImages(items=tuple(_image(each) for each in found))


async def add(call: Call[NoQuery], body: shapes.FirmwareNew) -> shapes.FirmwareImage:
    """Keep an image that a trusted signer signed, for a model that is known here."""
    call.services.profiles.get(body.model)
    async with call.connection() as connection:
        made = await firmware.add(connection, body.model, body.version, body.image, body.signature, by=call.who.name)
    return _image(made)


async def plan(call: Call[shapes.CampaignQuery]) -> shapes.CampaignPlan:
    """Say whom a campaign with this image would reach, and in which rings."""
    number = call.number("id", NotFoundError("firmware.no_image", id=call.path["id"]))
    async with call.connection() as connection:
        found = await campaigns.plan(connection, number, call.query.where, call.query.canary)
    return shapes.CampaignPlan(
        total=len(found.devices), rings=tuple(found.rings), devices=tuple(key for _, key, _ in found.devices[:_SAMPLE])
    )


async def list_(call: Call[NoQuery]) -> shapes.Campaigns:
    """List campaigns, the newest first."""
    async with call.connection() as connection:
        found = await campaigns.campaigns(connection)
    return shapes.Campaigns(items=tuple(_campaign(each) for each in found))


async def show(call: Call[NoQuery]) -> shapes.CampaignDetail:
    """Show a campaign with each of its devices."""
    async with call.connection() as connection:
        found = await campaigns.campaign(connection, _number(call))
        devices = await campaigns.updates(connection, found.id)
    return shapes.CampaignDetail(
        **msgspec.structs.asdict(_campaign(found)), devices=tuple(_update(each, call.lang) for each in devices)
    )


async def begin(call: Call[NoQuery], body: shapes.CampaignNew) -> shapes.Campaign:
    """Begin a campaign: canaries first, then ring by ring; it pauses when too many fail."""
    terms = campaigns.Terms(
        base_url=(body.base_url or str(call.request.url.origin())).rstrip("/"), canary=body.canary,
        fail_share=body.fail_share,
    )  # fmt: skip
    async with call.connection() as connection:
        return _campaign(await campaigns.begin(connection, body.image, body.where, terms, by=call.who.name))


async def pause(call: Call[NoQuery]) -> shapes.Campaign:
    """Begin no more updates; those that run go on."""
    return await _turn(call, "pause")


async def resume(call: Call[NoQuery]) -> shapes.Campaign:
    """Go on; what failed is tried again."""
    return await _turn(call, "resume")


async def stop(call: Call[NoQuery]) -> shapes.Campaign:
    """End it; those that run go on to their end."""
    return await _turn(call, "stop")


async def roll_back(call: Call[NoQuery]) -> shapes.CampaignRolledBack:
    """Stop it, and bring devices that took it back to the version they had; say who cannot, for want of that image."""
    async with call.connection() as connection:
        made, left = await campaigns.roll_back(connection, _number(call), by=call.who.name)
    return shapes.CampaignRolledBack(campaigns=tuple(_campaign(each) for each in made), cannot=tuple(left))


async def _turn(call: Call[NoQuery], to: str) -> shapes.Campaign:
    async with call.connection() as connection:
        return _campaign(await campaigns.turn(connection, _number(call), to, by=call.who.name))


def _image(found: firmware.Image) -> shapes.FirmwareImage:
    return shapes.FirmwareImage(**(msgspec.structs.asdict(found) | {"sha256": found.sha256.hex()}))


def _campaign(found: campaigns.Campaign) -> shapes.Campaign:
    return msgspec.convert(found, shapes.Campaign, from_attributes=True)


def _update(found: campaigns.Update, lang: str) -> shapes.FirmwareUpdate:
    plain: dict[str, Any] = msgspec.structs.asdict(found)
    problem = plain.pop("problem")
    said = None if problem is None else text(problem["code"], lang, **problem["facts"])
    return shapes.FirmwareUpdate(**plain, said=said)


def _number(call: Call[NoQuery]) -> int:
    return call.number("id", NotFoundError("firmware.no_campaign", id=call.path["id"]))


routes = (
    get("/firmware", images, reach=Reach.ANY),
    post("/firmware", add, Action.FIRMWARE, most=_LARGEST),
    get("/firmware/signers", signers, reach=Reach.ANY),
    post("/firmware/signers", trust, Action.FIRMWARE),
    delete("/firmware/signers/{name}", revoke, Action.FIRMWARE),
    get("/firmware/{id}/plan", plan, action=Action.FIRMWARE),
    get("/campaigns", list_),
    post("/campaigns", begin, Action.FIRMWARE),
    get("/campaigns/{id}", show),
    post("/campaigns/{id}/pause", pause, Action.FIRMWARE),
    post("/campaigns/{id}/resume", resume, Action.FIRMWARE),
    post("/campaigns/{id}/stop", stop, Action.FIRMWARE),
    post("/campaigns/{id}/rollback", roll_back, Action.FIRMWARE),
)
