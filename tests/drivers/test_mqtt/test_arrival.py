"""What comes in one packet of the network did not arrive at one time."""

from __future__ import annotations

from mqttium import MQTTProtocolVersion

from drivers.mqtt.session import Session

TOPIC = b"iot/v1/aq-1/telemetry"
PUBLISH = bytes([0x30, 2 + len(TOPIC) + 2, 0, len(TOPIC)]) + TOPIC + b"{}"


async def test_no_two_messages_have_the_same_arrival() -> None:
    session = Session(MQTTProtocolVersion.MQTTv311, keepalive_s=30)
    for _ in range(3):
        session.data_received(PUBLISH * 200)
    arrivals = [message.received_at for message in await session.take()]
    assert len(set(arrivals)) == 600
    assert arrivals == sorted(arrivals)
