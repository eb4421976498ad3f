"""Ask a device that is a CoAP server once, without a running core: `iot profile try MODEL --live coap://HOST:PORT`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiocoap.error import Error as CoapError
from aiocoap.numbers.codes import Code

from drivers.coap.client import answer_of, request_to, uplink_of
from drivers.coap.endpoint import LOGGER, Endpoint, keep_secrets_out_of_the_log
from iot_core.errors import DeviceUnreachable, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiocoap import Message

    from iot_core.model import Uplink
    from iot_core.profiles import Profile
    from iot_core.profiles.resources import Resource

__all__ = ["look"]


async def look(address: str, profile: Profile, timeout_s: float, state: Path) -> Sequence[Uplink]:  # noqa: ARG001 - no core needed
    """GET every resource of a model once, unprotected, within `timeout_s` of all. What is refused is left out.

    Raises RequestError for an address that is none, DeviceUnreachable when the model has no resources or none answers.
    """
    if profile.coap is None:
        raise DeviceUnreachable("driver.coap_no_resources", model=profile.model)
    asked = [(resource, _get(address, resource)) for resource in profile.coap.resources]
    keep_secrets_out_of_the_log()
    endpoint = await Endpoint.create_client_context(loggername=LOGGER, transports=["udp6"])
    seen: list[Uplink] = []
    missing = ""
    try:
        async with asyncio.timeout(timeout_s):
            for resource, message in asked:
                response = await answer_of(endpoint.request(message))
                if response.code.is_successful():
                    seen.append(uplink_of(address, resource, response))
                else:
                    missing = f"{resource.path}: {response.code.dotted}"
    except TimeoutError:
        missing = f"{timeout_s:g} s"
    except (CoapError, OSError, ValueError) as exc:  # ValueError: no host is called so
        missing = type(exc).__name__
    finally:
        await endpoint.shutdown()
    if not seen:
        raise DeviceUnreachable("driver.coap_silent", address=address, detail=missing)
    return seen


def _get(address: str, resource: Resource) -> Message:
    wrong = RequestError("driver.other_address", address=address, template="coap://HOST:PORT")
    if not address.startswith("coap://"):
        raise wrong
    try:
        message = request_to(address.rstrip("/"), resource.path, Code.GET)
    except ValueError:
        raise wrong from None
    message.opt.accept = resource.accept
    return message
