"""RabbitMQ with its MQTT plugin as a process of the tests' own: own node name, cookie, data, ports, all on loopback."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.servers import Missing, answers, free_ports, until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian's /usr/sbin/rabbitmq-server is a wrapper that becomes the service's user; this is the program.
PROGRAM: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PLUGINS: Final = "[rabbitmq_mqtt,rabbitmq_auth_backend_http]."
_READY_S: Final = 90.0

_CONFIG: Final = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = false
mqtt.prefetch = 2000
mqtt.sparkplug = true
log.console = true
log.console.level = warning
log.file = false
"""
_ASKS: Final = """\
auth_backends.1 = http
auth_http.http_method = post
auth_http.user_path = {api}/broker/auth
auth_http.vhost_path = {api}/broker/acl
auth_http.resource_path = {api}/broker/acl
auth_http.topic_path = {api}/broker/acl
"""


@dataclass
class RabbitMQ:
    """A broker that can be killed and started again on the same data and port."""

    folder: Path
    port: int
    epmd_port: int
    config: str
    host: str = "127.0.0.1"
    node: str = field(default_factory=lambda: f"iot-{os.getpid()}-{secrets.token_hex(4)}@localhost")
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes MQTT connections."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM], cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        server = self.process
        until(lambda: server.poll() is not None or answers(self.port), seconds=_READY_S, what="RabbitMQ")
        assert server.poll() is None, self.log()[-4000:]

    def kill(self) -> None:
        """SIGKILL it, as a power cut or the kernel's out-of-memory killer would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def log(self) -> str:
        """Give what it said."""
        return (self.folder / "log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with suppress(ProcessLookupError):  # its helpers leave with it, unless it hangs
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def _environment(self) -> dict[str, str]:
        """Say everything that would else come from /etc/rabbitmq and /var/lib/rabbitmq."""
        folder = str(self.folder)
        return {
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C.UTF-8",
            "HOME": folder,  # where the cookie is
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_DIST_PORT": str(self.epmd_port + 1),
            # One scheduler is enough, and spinning ones would take the tests' processor.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }


@contextmanager
def rabbitmq(folder: Path, *, api: str = "", port: int = 0) -> Iterator[RabbitMQ]:
    """Run RabbitMQ while the block lasts; with `api` it asks a core there (`http://127.0.0.1:8080`) who may do what.

    Without `api` the one account is guest, guest. It starts in about ten seconds.
    """
    if not PROGRAM.exists():
        raise Missing("RabbitMQ is not installed: scripts/packages rabbitmq-server")
    folder.mkdir(parents=True, exist_ok=True)
    first = free_ports(3)
    broker = RabbitMQ(folder, port or first + 2, first, (_CONFIG + _ASKS if api else _CONFIG))
    (folder / "rabbitmq.conf").write_text(broker.config.format(port=broker.port, api=api))
    (folder / "enabled_plugins").write_text(PLUGINS)
    cookie = folder / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    with ExitStack() as stack:
        stack.enter_context(_names(broker.epmd_port))
        broker.start()
        stack.callback(broker.stop)
        yield broker


@contextmanager
def _names(port: int) -> Iterator[None]:
    """Run Erlang's name server in the foreground: one that a node starts by itself would outlive it."""
    child = subprocess.Popen(
        ["epmd", "-port", str(port), "-address", "127.0.0.1"],
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: answers(port), what="epmd")
        yield
    finally:
        child.kill()
        child.wait(10)
