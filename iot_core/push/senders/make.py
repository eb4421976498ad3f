"""Which sender a kind of target has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot_core.push.senders.feed import FeedSender
from iot_core.push.senders.mqtt import MqttSender
from iot_core.push.senders.notify import NotifySender
from iot_core.push.senders.syslog import SyslogSender
from iot_core.push.senders.webhook import WebhookSender

if TYPE_CHECKING:
    from iot_core.push.outbox import Endpoint
    from iot_core.push.senders.base import Access, Sender

__all__ = ["make_sender"]


def make_sender(target: Endpoint, access: Access) -> Sender:
    """Make the sender of a target."""
    match target.kind:
        case "mqtt":
            return MqttSender(target, access)
        case "apprise":
            return NotifySender(target, access)
        case "syslog":
            return SyslogSender(target, access)
        case "feed":
            return FeedSender()
        case _:
            return WebhookSender(target, access)
