"""The embedded broker (iotcore: rumqttd in a wheel), a child process for machines without Mosquitto.

It asks nobody for a password, so it listens on loopback only: a sender is known by its topic. Its window is 100
messages in flight.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iot_core.broker.local import LocalBroker, connects
from iot_core.broker.mosquitto import LARGEST_MESSAGE
from iot_core.driver import BrokerEndpoint
from iot_core.errors import StartError
from iot_core.messages import text
from iot_core.state import write_private

if TYPE_CHECKING:
    import asyncpg

    from iot_core.children import User
    from iot_core.settings import Mqtt
    from iot_core.state import StateDir

__all__ = ["Embedded"]

WINDOW: Final = 100

# Not iotcore's own starter: its child ends with its parent, and with it every session and message it holds for us.
# rumqttd logs every packet as an error; only what Python itself says is kept.
_CHILD: Final = """
import json, logging, sys
sys.path.append(sys.argv[2])
logging.basicConfig(level=logging.CRITICAL)
from iotcore.iotcore import IotCoreBroker
IotCoreBroker(**json.loads(sys.argv[1])).run_forever()
"""


class Embedded(LocalBroker):
    """Serves this machine only."""

    def __init__(self, settings: Mqtt, state: StateDir, pool: asyncpg.Pool) -> None:
        super().__init__(settings, state, pool)
        self.endpoint = BrokerEndpoint(
            host=settings.host, port=settings.port, username=None, password=None, window=WINDOW, kind="embedded"
        )

    def line(self) -> str:
        """Say that it is open to this machine and closed to every other."""
        return text("broker.embedded", host=self.endpoint.host, port=self.endpoint.port)

    async def command(self) -> tuple[list[str | Path], User | None, bool]:
        """Refuse any address that others could reach."""
        host = "127.0.0.1" if self.settings.host == "localhost" else self.settings.host
        if not _is_loopback(host):
            raise StartError("broker.embedded_loopback", host=host)
        options = json.dumps(
            {
                "listen": host,
                "port": self.settings.port,
                "max_payload_size": LARGEST_MESSAGE,
                "max_inflight_count": WINDOW,
            }
        )
        kept = self.home / "embedded.json"
        same = kept.exists() and kept.read_text(encoding="utf-8") == options
        if not same:
            write_private(kept, options.encode())
        # -P: a folder named iotcore in the working directory must not be imported.
        return [sys.executable, "-P", "-c", _CHILD, options, _packages()], None, same

    def answers(self) -> bool:
        """Try its port."""
        return connects((self.settings.host, self.settings.port))

    async def refresh(self) -> None:
        """Do nothing: it has no accounts."""


def _packages() -> Path:
    """Find the folder that iotcore is installed in; a child sees nothing of our environment, PYTHONPATH neither."""
    found = importlib.util.find_spec("iotcore")
    if found is None or found.origin is None:
        raise StartError("broker.no_embedded")
    return Path(found.origin).parent.parent


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
