"""A reference client for device makers: claim once, keep the secret.

    python reference_claim.py HOST PORT BATCH KEY SERIAL [CA.pem]

With the authority's certificate (`iot ca init`) it speaks TLS, to `claims.tls_port`.

Keep `reply` in flash before the first claim and show the same one until a secret came: that is how a claim that was
cut off is told from a clone's. What comes back is `{"device": ..., "secret": ...}`: MQTT user name and password.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import sys
from pathlib import Path

import aiomqtt


async def claim(
    where: tuple[str, int], batch: str, key: str, serial: str, flash: Path, *, profile: str | None = None,
    authority: Path | None = None,
) -> dict[str, str]:  # fmt: skip
    """Ask until there is an answer. Raises PermissionError when this device gets nothing."""
    if not flash.exists():
        flash.write_text(secrets.token_hex(16))  # 128 random bits, before anything is sent
    reply = flash.read_text()
    tls = None if authority is None else ssl.create_default_context(cafile=str(authority))
    while True:
        async with aiomqtt.Client(*where, identifier=reply, username=batch, password=key, tls_context=tls) as client:
            await client.subscribe(f"iot/v1/claim/{reply}", qos=1)
            body = {"serial": serial, "profile": profile, "reply": reply}
            await client.publish("iot/v1/claim", json.dumps(body), qos=1)
            async for message in client.messages:
                said = json.loads(bytes(message.payload))
                if said["state"] == "accepted":
                    return {"device": said["device"], "secret": said["secret"]}
                if said["state"] == "refused":
                    raise PermissionError(serial)
        await asyncio.sleep(30)


if __name__ == "__main__":
    host, port, batch_name, batch_key, own_serial = sys.argv[1:6]
    ca = Path(sys.argv[6]) if len(sys.argv) > 6 else None
    got = asyncio.run(claim((host, int(port)), batch_name, batch_key, own_serial, Path("reply"), authority=ca))
    sys.stdout.write(json.dumps(got))
