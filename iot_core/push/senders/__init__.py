"""How each kind of target is reached. A sender belongs to one target and is made anew when the target changes.

webhook.py  signed POST          mqtt.py    PUBLISH, QoS 1       syslog.py  RFC 5424 over UDP, TCP, TLS
notify.py   apprise, by URL      feed.py    kept for who asks
"""

from iot_core.push.senders.base import Access, Sender
from iot_core.push.senders.make import make_sender

__all__ = ["Access", "Sender", "make_sender"]
