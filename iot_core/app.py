"""Wiring: the one place where concrete classes meet.

    embedded PostgreSQL or DSN -> migrate -> tables -> pool -> directory -> rules -> ingest
    broker -> drivers (entry points) -> ingest;  timers, push, housekeeping;  API and page

Started in that order and ended in reverse, so that nothing in flight is lost: stop taking, flush, acknowledge, close.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog
from aiohttp import web

from iot_core import broker as brokers
from iot_core.alarms.escalation import run_escalation
from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.follow import follow_rules
from iot_core.alarms.own import run_own
from iot_core.alarms.timers import run_timers
from iot_core.api import make_app
from iot_core.api.certificate import Tls, is_loopback, loaded, tls_of
from iot_core.api.malformed import say_malformed_in_one_line
from iot_core.api.notifying import run_notifying
from iot_core.api.services import Services
from iot_core.asking import Asking
from iot_core.claiming import Claiming
from iot_core.commanding import Commanding, Handover, Reach, Scheduler, Twins, run_campaigns
from iot_core.counters import Counters
from iot_core.driver import BrokerEndpoint, Driver, DriverContext
from iot_core.errors import StartError
from iot_core.ingest.flush import Flush
from iot_core.ingest.limit import RateLimit
from iot_core.ingest.load import Loader
from iot_core.ingest.prepare import Prepare
from iot_core.ingest.replay import replay_address, replay_step
from iot_core.ingest.worker import Ingest
from iot_core.messages import text
from iot_core.opened import open_store
from iot_core.profiles import Profiles
from iot_core.profiles.follow import name_broken, stamps
from iot_core.profiles.load import load_tolerant
from iot_core.push import run_push
from iot_core.push.heartbeat import run_heartbeat
from iot_core.push.reporting import run_reports
from iot_core.push.senders.base import Access, Home
from iot_core.push.watchdog import Part, Vitals, Watch, watching
from iot_core.registry import pending
from iot_core.registry.authority import Authority, own_names
from iot_core.registry.credentials import Authenticator
from iot_core.registry.directory import Directory
from iot_core.registry.keep import Keep
from iot_core.registry.tokens import ensure_local_token
from iot_core.renewal import Renewal
from iot_core.settings import Settings
from iot_core.state import Running, StateDir
from iot_core.store import held, status
from iot_core.store.columns import ClassTable
from iot_core.store.connection import open_pool, open_readers, outlasting
from iot_core.store.info import free_bytes
from iot_core.store.nightly import Nightly
from iot_core.store.numbers import run_days
from iot_core.store.partitions import ensure_partitions, weeks_around_now
from iot_core.store.refresh import Refresh
from iot_core.store.reseal import reseal
from iot_core.store.server import embedded
from iot_core.store.sessions import StoredSessions
from iot_core.store.tier import Found, Tier
from iot_core.store.vault import NAME, Vault
from iot_core.supervisor import supervise

if TYPE_CHECKING:
    from iot_core.broker import Broker

log = structlog.get_logger()

Say = Callable[[str], None]
_DRAIN_S: Final = 1.5
_CANCEL_AGAIN_S: Final = 2.0
_LISTENING_S: Final = 15.0
_HOUSEKEEPING_S: Final = 600.0
_LAG_IS_UNHEALTHY_S: Final = 5.0
_RENEW_LOOK_S: Final = 3_600.0
_CLAIMS_FILE: Final = "claims.pem"


@dataclass(frozen=True, slots=True)
class Core:
    """A running core, for whoever runs it in this process."""

    url: str
    token: str
    dsn: str
    broker: BrokerEndpoint
    coap: tuple[str, int]
    pool: asyncpg.Pool
    profiles: Profiles
    counters: Counters
    ingest: Ingest
    directory: Directory

    async def wait(self) -> None:
        """Run until cancelled."""
        await asyncio.Event().wait()


@asynccontextmanager
async def running_core(  # noqa: C901, PLR0915 - the wiring of everything
    settings: Settings, state: StateDir, *, say: Say
) -> AsyncIterator[Core]:
    """Run a core while the block lasts; `say` gets one line for each part as it comes up.

    Raises ConfigError or StartError, each with a sentence and the next step.
    """
    _check_ports(settings)
    counters = Counters()
    own_folder = Path(settings.profiles) if settings.profiles else None
    seen = stamps(own_folder) if own_folder else {}
    profiles = load_tolerant(own_folder)
    async with AsyncExitStack() as stack:
        dsn = settings.store.dsn or await stack.enter_async_context(embedded(state))
        pool = await stack.enter_async_context(open_pool(dsn, settings.store))
        store = await open_store(pool, settings, profiles)
        found, tables, profiles = store.found, store.tables, store.profiles
        refresh = Refresh(store.rollups, found.tier)
        say(
            text(
                "app.store",
                server=_server(dsn, found, settings),
                tier=text(f"app.tier.{found.tier}", extension=found.extension),
            )
        )
        vault = Vault(Path(settings.store.master_keys) if settings.store.master_keys else state.path / NAME)
        vault.make()
        async with pool.acquire() as connection:
            async for sealed in reseal(connection, vault):  # what an older version kept in clear
                log.info("vault.sealed", secrets=sealed)
        directory, evaluator = Directory(), Evaluator(profiles)
        evaluator.window = directory.window
        async with pool.acquire() as connection:
            await directory.load(connection)
            await evaluator.load(connection)
        say(text("app.devices", devices=len(directory)))
        broker = await stack.enter_async_context(brokers.running(settings, state, pool, profiles))
        say(text("app.broker", line=broker.line()))
        prepare = Prepare(directory, profiles, tables, settings.ingest.max_payload)
        flush = Flush(tables, found.tier, evaluator, store.compressed_after)
        loader = Loader(tables, found.tier)
        ingest = Ingest(
            pool,
            prepare,
            flush,
            counters,
            queue=settings.ingest.queue,
            batch=_batch(settings, broker),
            batch_s=settings.ingest.batch_ms / 1000,
            limit=RateLimit(settings.ingest.device_rate, settings.ingest.device_burst),
        )

        async def replay(address: str) -> int:
            ingest.forget_unknown(address)
            async with pool.acquire() as connection:
                await directory.reload(connection, addresses=[address])
            return await replay_address(pool, prepare, flush, address)

        def healthy() -> bool:
            reachable = all(driver.connected() for driver in drivers.values())
            return reachable and ingest.away_since is None and ingest.lag_s() < _LAG_IS_UNHEALTHY_S

        # Not ingest's own: requests that wait for a lock would take every connection, and telemetry would wait too.
        others = await stack.enter_async_context(open_pool(dsn, settings.store))
        reach = Reach(directory)
        # On the embedded broker everybody hears everything.
        handover = Handover(others, vault, overheard=broker.kind == "embedded")
        commanding = Commanding(others, reach, profiles, handover)
        twins = Twins(others, commanding, profiles)
        authenticator = Authenticator(pool)
        claiming = Claiming(others, profiles, counters.count, broker.refresh)
        authority = Authority(state.path / "authority")
        async with pool.acquire() as connection:
            claim_tls = await _claim_tls(connection, settings, authority)
        context = DriverContext(
            settings=settings,
            profiles=profiles,
            authenticate=authenticator,
            broker=broker.endpoint,
            credentials=Keep(pool, vault),
            said=commanding.said,
            config=twins.document,
            commands=commanding.fetched,
            count=counters.count,
            claim=claiming,
            claim_tls=None if claim_tls is None else claim_tls.context,
            sessions=StoredSessions(pool),
            spool=state.path / "spool",
        )
        drivers = _drivers(context)
        reach.drivers.update({driver.scheme: driver for driver in drivers.values()})
        async with pool.acquire() as connection:
            token = await ensure_local_token(connection, state.token_file)
        services = Services(
            pool=others,
            readers=await stack.enter_async_context(open_readers(dsn, settings.store)),
            profiles=profiles,
            settings=settings,
            counters=counters,
            broker=broker,
            replay_address=replay,
            load=loader,
            replay_held=partial(replay_step, pool, prepare, flush),
            healthy=healthy,
            vault=vault,
            asking=Asking(directory, profiles, ingest.emit, reach.drivers),
            commanding=commanding,
            twins=twins,
            claiming=claiming,
            authority=authority,
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.push_async_callback(_end_tasks, ingest, own := _Tasks(group))
        own.start("ingest", ingest.run)
        own.start("directory", lambda: directory.follow(pool))
        own.start("broker accounts", broker.watch)
        own.start("device secrets", authenticator.watch)
        own.start("alarm rules", lambda: follow_rules(pool, evaluator))
        own.start("alarm timers", lambda: run_timers(pool, evaluator, healthy))
        own.start("escalation", lambda: run_escalation(pool))
        watch = stack.enter_context(watching(_watch(settings, state, _home(broker.endpoint))))
        own.start(
            "push",
            lambda: run_push(pool, settings, _home(broker.endpoint), lambda: watch.vitals.beat(Part.PUSH), vault=vault),
        )
        own.start("subscriptions", lambda: run_notifying(pool, profiles))
        if settings.reports.stations:
            own.start("reports", lambda: run_reports(pool, settings))
        own.start("heartbeat", lambda: run_heartbeat(pool, settings, healthy, _home(broker.endpoint), vault=vault))
        own.start("own vital signs", lambda: run_own(pool, watch, healthy, vault=vault))
        own.start("commands", commanding.run)
        own.start("twins", twins.run)
        own.start("firmware", lambda: run_campaigns(others))
        own.start("schedules", Scheduler(others, commanding, twins, profiles, settings.timezone).run)
        own.start("rollups", lambda: refresh.run(pool))
        own.start("numbers", lambda: run_days(pool))
        free = partial(free_bytes, settings, state.path)
        own.start("nightly", lambda: Nightly(refresh, settings.retention, free, healthy).run(pool))
        counters.gauge("profiles_broken", lambda: float(len(profiles.broken)))
        if own_folder is not None:
            renewal = Renewal(
                settings,
                store,
                counters,
                prepare,
                flush,
                loader,
                evaluator,
                directory,
                pool,
                broker,
                own_folder,
                seen,
            )
            own.start("profiles", renewal.run)
        own.start("housekeeping", lambda: _housekeeping(pool, tables, found.tier, settings))
        say(text("app.alarms", rules=_rules(profiles), classes=len(profiles.classes)))
        for each in profiles.broken:
            name_broken(each)
            say(text("app.profile_broken", reason=text(each.error.code, **each.error.facts)))
        say(
            text(
                "app.push", targets=await pool.fetchval("SELECT count(*) FROM iot.push_target WHERE removed_at IS NULL")
            )
        )
        for name, driver in drivers.items():
            own.start(f"driver {name}", partial(driver.run, directory, ingest.emit))
        # Before waiting for the drivers: a broker elsewhere asks the API whether our own driver may log in.
        tls = tls_of(settings.api, state.path)
        url = await stack.enter_async_context(_serving(services, settings, tls))
        for name, shown in (("certificate", tls), ("claims certificate", claim_tls)):
            if shown is not None:
                own.start(name, shown.follow)
        if claim_tls is not None and claim_tls.own:
            own.start("claims renewal", lambda: _renew_claims(pool, settings, authority))
        deadline = asyncio.get_running_loop().time() + _LISTENING_S
        for name, driver in drivers.items():
            say(await _driver_line(name, driver, deadline))
        say(text("app.api", url=url))
        if tls is not None:
            say(text("app.certificate", fingerprint=tls.fingerprint))
        elif not is_loopback(settings.api.host):
            say(text("app.api_in_clear"))
        pinned = tls.fingerprint if tls is not None and tls.own else ""
        state.announce(Running(pid=os.getpid(), url=url, fingerprint=pinned, ports=_ports(settings)))
        yield Core(
            url, token, dsn, broker.endpoint, (settings.coap.host, settings.coap.port),
            pool, profiles, counters, ingest, directory,
        )  # fmt: skip


async def _driver_line(name: str, driver: Driver, deadline: float) -> str:
    """Wait until a driver listens, and say where; one whose other end is away goes on trying by itself."""
    try:
        async with asyncio.timeout_at(deadline):
            await driver.listening()
    except TimeoutError:
        return text("app.driver_not_yet", name=name, line=driver.address_line())
    return text("app.driver", name=name, line=driver.address_line())


class _Tasks:
    """The core's services as supervised, named tasks."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self.running: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self.running.append(self._group.create_task(supervise(name, run), name=name))


async def _end_tasks(ingest: Ingest, tasks: _Tasks) -> None:
    """Stop taking, flush and acknowledge what was taken, then close; bounded, because a SIGTERM must end."""
    ingest.close()
    if ingest.away_since is None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await ingest.drain()
    while running := [task for task in tasks.running if not task.done()]:
        for task in reversed(running):
            task.cancel()
        await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)  # one may wait for a rollback over a line that is silent


def _watch(settings: Settings, state: StateDir, home: Home) -> Watch:
    access = Access(allow_private=settings.push.allow_private, timeout_s=settings.push.timeout_s, home=home)
    return Watch(Vitals(), access, settings.timezone, settings.push.watchdog_s, file=state.path / "watch.json")


def _home(endpoint: BrokerEndpoint) -> Home:
    return Home(endpoint.host, endpoint.port, endpoint.username, endpoint.password, endpoint.socket)


def _batch(settings: Settings, broker: Broker) -> int:
    # A broker sends no more than its window without acknowledgement. Half of it is collected while the other half is
    # flushed; the embedded one's is too small to halve.
    window = broker.endpoint.window
    return min(settings.ingest.batch, window if broker.kind == "embedded" else max(window // 2, 1))


@asynccontextmanager
async def _serving(services: Services, settings: Settings, tls: Tls | None) -> AsyncIterator[str]:
    """Serve the API and the page; give their address."""
    say_malformed_in_one_line()
    runner = web.AppRunner(make_app(services), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        context = tls.context if tls is not None else None
        await web.TCPSite(runner, settings.api.host, settings.api.port, ssl_context=context).start()
        host = f"[{settings.api.host}]" if ":" in settings.api.host else settings.api.host
        yield f"{'http' if tls is None else 'https'}://{host}:{settings.api.port}"
    finally:
        await runner.cleanup()


def _drivers(context: DriverContext) -> dict[str, Driver]:
    """Make one of each installed driver, found through the entry point group."""
    found = sorted(entry_points(group="iot_core.drivers"), key=lambda point: point.name)
    return {point.name: point.load()(context) for point in found}


async def _housekeeping(pool: asyncpg.Pool, tables: Mapping[str, ClassTable], tier: Tier, settings: Settings) -> None:
    while True:
        async with pool.acquire() as connection:
            await held.trim(
                connection,
                rows=settings.ingest.held_rows,
                days=settings.ingest.held_days,
                megabytes=settings.ingest.held_mb,
            )
            await pending.tidy(connection)
            await status.trim_seqs(connection, keep=max(map(settings.retention.raw, tables)))
            if tier is Tier.PLAIN:
                for key in tables:
                    await ensure_partitions(connection, key, weeks_around_now())
        await asyncio.sleep(_HOUSEKEEPING_S)


async def _claim_tls(connection: asyncpg.Connection, settings: Settings, authority: Authority) -> Tls | None:
    """Choose what the claims' TLS listener shows: what the broker's does, or a certificate of our own authority."""
    if not settings.claims.tls_port:
        return None
    if settings.mqtt.tls_cert:
        return loaded(Path(settings.mqtt.tls_cert), Path(settings.mqtt.tls_key), own=False)
    await authority.ensure(connection, by="core")
    await authority.server(connection, own_names(settings.claims.host), _CLAIMS_FILE)
    kept = authority.kept(_CLAIMS_FILE)
    return loaded(kept, kept, own=True)


async def _renew_claims(pool: asyncpg.Pool, settings: Settings, authority: Authority) -> None:
    """Write a new certificate for the claims' listener before the one that it shows ends; `Tls.follow` takes it."""
    while True:
        await asyncio.sleep(_RENEW_LOOK_S)
        with outlasting():
            async with pool.acquire() as connection:
                await authority.server(connection, own_names(settings.claims.host), _CLAIMS_FILE)


def _check_ports(settings: Settings) -> None:
    """Say which port is taken before anything is started."""
    # The broker looks at its own: one that a killed core left behind holds its port by right.
    listeners = [
        ("api", settings.api.host, settings.api.port, socket.SOCK_STREAM),
        ("coap", settings.coap.host, settings.coap.port, socket.SOCK_DGRAM),
        ("claims", settings.claims.host, settings.claims.port, socket.SOCK_STREAM),
        ("claims", settings.claims.host, settings.claims.tls_port, socket.SOCK_STREAM),
    ]
    for part, host, port, kind in listeners:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except socket.gaierror as exc:
                raise StartError("app.no_such_host", part=part, host=host) from exc
            except OSError as exc:
                raise StartError("app.port_in_use", part=part, host=host, port=port) from exc


def _server(dsn: str, found: Found, settings: Settings) -> str:
    where = "embedded" if not settings.store.dsn else dsn.rpartition("@")[2].partition("?")[0]
    return f"PostgreSQL {found.server.partition(' ')[0]} ({where})"


def _rules(profiles: Profiles) -> int:
    return sum(len(each.rules) for each in profiles.classes.values())


def _ports(settings: Settings) -> dict[str, int]:
    return {"api": settings.api.port, "mqtt": settings.mqtt.port, "coap": settings.coap.port}
