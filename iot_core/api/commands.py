"""Send a command to a device, now or not at all."""

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, post
from iot_core.errors import CommandRejected
from iot_core.model import CommandState
from iot_core.registry.found import short


async def send(call: Call[NoQuery], body: shapes.CommandNew) -> shapes.CommandSent:
    """Send a command to a device and say how far it came.

    `sent`: it left for the device (over Modbus and CoAP the device confirmed it). `delivered`, `succeeded` and `failed`
    are a native device's own word, when it comes within `wait_s`.
    """
    key = call.path["key"]
    async with call.connection() as connection:
        device = await short(connection, key)
    if call.services.commanding is None:
        raise CommandRejected("command.no_driver", device=key, protocol="-")
    sent = await call.services.commanding.send(device.key, body.name, body.params, wait_s=body.wait_s)
    return shapes.CommandSent(
        id=sent.id, device=device.key, name=body.name, state=CommandState(sent.state), detail=sent.detail
    )


routes = (post("/devices/{key}/commands", send, Action.DEVICES),)
