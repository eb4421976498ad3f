"""Mosquitto 2 as our child, with accounts and topic rights from the registry; its own service is not touched.

STATE/broker/ mosquitto.conf  what it was started with; while that is what we want, it is adopted, not restarted
              accounts, acl   from the registry; rewritten and reloaded (SIGHUP) when units change
              secret          the core's own password, 0600
              server.pem, server.key, clients.pem, crl.pem   for the TLS listener
              child.json      who the process is
              data/           its queues, of the user that runs it
run/mqtt/core.sock            the core's own listener; devices have the TCP one
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from iot_core import children
from iot_core.broker import rights
from iot_core.broker.introduce import introduce
from iot_core.broker.local import LocalBroker, connects
from iot_core.children import User
from iot_core.driver import BrokerEndpoint
from iot_core.errors import IotError, StartError
from iot_core.messages import text
from iot_core.registry import credentials
from iot_core.registry.authority import Authority, own_names
from iot_core.registry.directory import CHANNEL
from iot_core.registry.passwords import check_secret, hash_secret
from iot_core.state import is_root, write_private
from iot_core.store.connection import AWAY, listening, outlasting

if TYPE_CHECKING:
    import asyncpg

    from iot_core.profiles import Profiles
    from iot_core.settings import Mqtt
    from iot_core.state import StateDir

__all__ = ["LARGEST_MESSAGE", "SAVE_AFTER", "Mosquitto", "installed"]

log = structlog.get_logger()

CORE: Final = "_core"
"""The core's login; no device key can look like it."""
LARGEST_MESSAGE: Final = 1024 * 1024
_BETWEEN_RELOADS_S: Final = 0.5
_GATHER_S: Final = 0.02
_RELOAD_TAKES_S: Final = 0.15  # it looks for signals ten times a second and says nothing when it has read its files
_FIRST_SAVES_S: Final = (1.0, 2.0, 5.0)  # pauses after each start: by one of them the core has subscribed
_BETWEEN_SAVES_S: Final = 30.0
_RETRY_S: Final = 1.0
_RENEW_LOOK_S: Final = 600.0
"""How often it is looked whether a certificate grows old, or its file was replaced."""

# autosave_on_changes: what a power cut can take of a queue that grows while the core is away is this many messages.
# A time would do for busy brokers, but writes the whole state for ever on idle ones; sessions and retained presence,
# which change seldom, are saved by us (SIGUSR1).
# upgrade_outgoing_qos: many vendors publish with QoS 0. From the broker on, their words are as safe as the others.
_CONFIG: Final = """\
per_listener_settings false
allow_anonymous false
password_file {home}/accounts
acl_file {home}/acl

listener 0 {socket}

listener {port} {host}
use_username_as_clientid true

{tls}persistence true
persistence_location {home}/data/
autosave_on_changes true
autosave_interval {save_after}

max_inflight_messages {window}
max_queued_messages {queued}
message_size_limit {largest}
upgrade_outgoing_qos true
set_tcp_nodelay true
sys_interval 5

log_dest stderr
log_type error
log_type warning
connection_messages false
"""
_TLS: Final = """\
listener {port} {host}
use_username_as_clientid true
certfile {home}/server.pem
keyfile {home}/server.key
tls_version tlsv1.2
{clients}
"""
_CLIENTS: Final = """\
cafile {home}/clients.pem
{crl}require_certificate true
use_identity_as_username true
"""
SAVE_AFTER: Final = 5_000


async def installed() -> Path | None:
    """Find Mosquitto 2 on PATH or where administrators' programs stand; older ones know no safe default."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=children.ENVIRONMENT["PATH"])
    if found is None:
        return None
    said = await asyncio.to_thread(_version_text, found)
    major = re.search(r"mosquitto version (\d+)\.", said)
    return Path(found) if major and int(major[1]) >= 2 else None


class Mosquitto(LocalBroker):
    """Authenticates devices by the registry. Never restarted for a new device: its files are read again."""

    keeps_retained = True

    def __init__(self, settings: Mqtt, state: StateDir, pool: asyncpg.Pool, profiles: Profiles, program: Path) -> None:
        super().__init__(settings, state, pool)
        self._profiles = profiles
        self._program = program
        self._user = _service_user() if is_root() else None
        self._sockets = state.run() / "mqtt"
        self._updating = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        """An update that has not begun to read yet."""
        self._updates: set[asyncio.Task[None]] = set()
        self._authority = Authority(state.path / "authority")
        self._revoked: set[str] | None = None
        """Numbers of the certificates in the list that the broker has; None before it was written."""
        self._reloaded_at = 0.0
        self._begun = asyncio.Event()
        """It was started, and begins to fill its memory anew."""
        self.endpoint = BrokerEndpoint(
            host=settings.host,
            port=settings.port,
            username=CORE,
            password=self._secret(),
            window=settings.window,
            kind="mosquitto",
            socket=str(self._sockets / "core.sock"),
        )

    def line(self) -> str:
        """Say where devices connect."""
        return text("broker.mosquitto", host=self.endpoint.host, port=self.endpoint.port)

    async def command(self) -> tuple[list[str | Path], User | None, bool]:
        """Write every file it needs; it is as wanted if its configuration is."""
        if self._user is not None:
            _check_reach(self._user, self.home)
        _own_folder(self._sockets, self._user)
        _own_folder(self.home / "data", self._user)
        try:
            async with self.pool.acquire() as connection:
                await self._write_certificates(connection)
                await self._write_accounts(connection)
        except AWAY as exc:
            raise StartError("store.unreachable", detail=type(exc).__name__) from exc
        config = self.home / "mosquitto.conf"
        same = not self._put(config, self._config())
        return [self._program, "-c", config], self._user, same

    def answers(self) -> bool:
        """Try both listeners."""
        host = "127.0.0.1" if self.settings.host in {"0.0.0.0", "::", ""} else self.settings.host  # noqa: S104
        return connects(self.endpoint.socket) and connects((host, self.settings.port))

    async def up(self, *, adopted: bool) -> None:
        """Show it whose the core's session is. An adopted one may not have read its files before the core died."""
        if not await introduce(self.endpoint.socket, self.settings.client_id, CORE, self.endpoint.password or ""):
            await self.stop()
            raise StartError("broker.ended", said="?", log=self.log_file)
        self._begun.set()
        if adopted:
            await self._reload()

    async def watch(self) -> None:
        """Keep it running, its accounts fresh and its state on disk, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(super().watch(), name="mosquitto process")
                group.create_task(self._follow(), name="mosquitto accounts")
                group.create_task(self._save(), name="mosquitto state")
                group.create_task(self._renew(), name="mosquitto certificates")
        finally:
            for update in self._updates:
                update.cancel()
            await asyncio.gather(*self._updates, return_exceptions=True)

    async def refresh(self) -> None:
        """Bring the registry of this moment into force. Raises what the database raises.

        A thousand devices that are let in at once share the few updates that two a second allow, and so does the
        registry's own notice of them.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._next_update(), name="mosquitto refresh")
            self._updates.add(self._next)
            self._next.add_done_callback(self._updates.discard)
        await asyncio.shield(self._next)

    async def _next_update(self) -> None:
        try:
            async with self._updating:
                await asyncio.sleep(max(_GATHER_S, self._until_reload()))  # before it reads, so that more come along
                self._next = None  # whoever asks from now on may know more than this one reads
                async with self.pool.acquire() as connection:
                    await self._bring_up_to_date(connection)
        finally:
            self._next = None if self._next is asyncio.current_task() else self._next

    async def _follow(self) -> None:
        while True:
            with outlasting():
                async with listening(self.pool, CHANNEL) as notices:
                    while True:
                        await self.refresh()
                        await notices.next()
            await asyncio.sleep(_RETRY_S)

    async def _renew(self) -> None:
        """Give it certificates and lists that were replaced, its own before they end; connections stay."""
        while self.settings.tls_port:
            await asyncio.sleep(_RENEW_LOOK_S)
            with outlasting():
                try:
                    async with self._updating, self.pool.acquire() as connection:
                        if await self._write_certificates(connection):
                            await self._reload()
                            log.info("broker.certificates_renewed")
                except IotError as exc:
                    log.warning("broker.certificates_not_renewed", code=exc.code, **exc.facts)

    async def _save(self) -> None:
        while True:
            self._begun.clear()
            for pause in chain(_FIRST_SAVES_S, repeat(_BETWEEN_SAVES_S)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._begun.wait()
                    break
                if self.child is not None:
                    self.child.send(signal.SIGUSR1)

    async def _bring_up_to_date(self, connection: asyncpg.Connection) -> None:
        thrown_out = await self._write_revoked(connection)
        if await self._write_accounts(connection) or thrown_out:
            await self._reload()
        for key in thrown_out:  # a list of revoked certificates ends no connection that stands already
            await introduce(self.endpoint.socket, key, CORE, self.endpoint.password or "")

    async def _reload(self) -> None:
        """Have it read its files, at most twice a second: each time it checks every connected client again."""
        await asyncio.sleep(self._until_reload())
        self._reloaded_at = asyncio.get_running_loop().time()
        if self.child is not None:
            self.child.send(signal.SIGHUP)
            await asyncio.sleep(_RELOAD_TAKES_S)

    def _until_reload(self) -> float:
        return max(0.0, self._reloaded_at + _BETWEEN_RELOADS_S - asyncio.get_running_loop().time())

    async def _write_accounts(self, connection: asyncpg.Connection) -> bool:
        """Write both files from the registry; say whether either changed."""
        devices = await credentials.accounts(connection)
        bridges = await credentials.bridges(connection)
        vendor = rights.vendor(await credentials.senders(connection), self._profiles, bridges)

        def write() -> bool:
            accounts = f"{CORE}:{self._own_hash()}\n{devices}".rstrip("\n") + "\n"
            wrote_accounts = self._put(self.home / "accounts", accounts)
            return self._put(self.home / "acl", rights.acl_file(CORE, vendor, self._profiles)) or wrote_accounts

        return await asyncio.to_thread(write)  # of 100,000 devices these are 15 MB

    async def _write_certificates(self, connection: asyncpg.Connection) -> bool:
        """Write what the TLS listener needs: another authority's files, else our own. Say whether anything changed."""
        mqtt = self.settings
        if not mqtt.tls_port:
            return False
        if not mqtt.tls_cert or (mqtt.client_certificates and not mqtt.client_ca):
            own = await self._authority.ensure(connection, by="core")
        if mqtt.tls_cert:
            certificate, key = _read(mqtt.tls_cert), _read(mqtt.tls_key)
        else:
            certificate, key = await self._authority.server(connection, own_names(mqtt.host))
        files = {"server.pem": certificate, "server.key": key}
        if mqtt.client_certificates:
            files["clients.pem"] = _read(mqtt.client_ca) if mqtt.client_ca else own
            if mqtt.client_crl:
                files["crl.pem"] = _read(mqtt.client_crl)
            await self._write_revoked(connection)
        changed = [self._put(self.home / name, content) for name, content in files.items()]
        return any(changed)

    async def _write_revoked(self, connection: asyncpg.Connection) -> set[str]:
        """Write the list of revoked certificates where it changed; give the devices that are out since then."""
        if not self.settings.tls_port or not self.settings.client_certificates or self.settings.client_ca:
            return set()
        revoked = await self._authority.revoked(connection)
        before, self._revoked = self._revoked, set(revoked)
        if before == self._revoked:
            return set()
        self._put(self.home / "crl.pem", await self._authority.crl(connection))
        return set() if before is None else {revoked[serial][0] for serial in self._revoked - before}

    def _own_hash(self) -> str:
        """Keep the core's line as it is while its secret is: a new salt would look like a change."""
        with suppress(OSError, ValueError):
            first = (self.home / "accounts").read_text(encoding="ascii").partition("\n")[0]
            hashed = first.removeprefix(f"{CORE}:")
            if check_secret(self.endpoint.password or "", hashed):
                return hashed
        return hash_secret(self.endpoint.password or "")

    def _secret(self) -> str:
        file = self.home / "secret"
        with suppress(OSError):
            if kept := file.read_text(encoding="ascii"):
                return kept
        made = secrets.token_urlsafe(32)
        write_private(file, made.encode())
        return made

    def _config(self) -> str:
        return _CONFIG.format(
            home=self.home,
            socket=self.endpoint.socket,
            host=self.settings.host,
            port=self.settings.port,
            window=self.settings.window,
            queued=self.settings.queued_messages,
            largest=LARGEST_MESSAGE,
            save_after=SAVE_AFTER,
            tls=self._tls(),
        )

    def _tls(self) -> str:
        mqtt = self.settings
        if not mqtt.tls_port:
            return ""
        crl = f"crlfile {self.home}/crl.pem\n" if mqtt.client_crl or not mqtt.client_ca else ""
        clients = _CLIENTS.format(home=self.home, crl=crl) if mqtt.client_certificates else ""
        return _TLS.format(port=mqtt.tls_port, host=mqtt.host, home=self.home, clients=clients)

    def _put(self, file: Path, content: str) -> bool:
        """Replace a file at once, readable by the broker's user and nobody else; False when it was so already."""
        with suppress(OSError):
            if file.read_text(encoding="utf-8") == content:
                return False
        handle, name = tempfile.mkstemp(dir=self.home, prefix=".")  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as new:
                new.write(content)
                if self._user is not None:
                    os.fchown(new.fileno(), self._user.uid, self._user.gid)
                new.flush()
                os.fsync(new.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return True


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError("broker.no_certificate", file=file, detail=type(exc).__name__) from exc


def _version_text(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "-h"], capture_output=True, text=True, timeout=10, check=False, env=children.ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _service_user() -> User:
    """Find whom Mosquitto runs as: its package's user."""
    import pwd  # noqa: PLC0415 - POSIX only

    for name in ("mosquitto", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return User(name, entry.pw_uid, entry.pw_gid)
    raise StartError("broker.no_user")


def _check_reach(user: User, path: Path) -> None:
    """Refuse a directory that the broker's user cannot pass through; name the folder that stops it."""
    for folder in (*reversed(path.parents), path):
        tried = subprocess.run(
            ["test", "-x", folder], cwd="/", user=user.uid, group=user.gid, extra_groups=[], check=False
        )
        if tried.returncode:
            raise StartError("broker.unreachable", folder=folder, user=user.name)


def _own_folder(path: Path, user: User | None) -> None:
    """Make a closed folder of the user that runs the broker."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if user is not None:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
    if path.lstat().st_uid != (user.uid if user is not None else os.geteuid()):
        raise StartError("start.state_not_ours", path=path)
