"""Sessions of Sparkplug B: births, aliases, seq, deaths; each trap of it by its name."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest

from drivers.mqtt import sparkplug as sessions
from drivers.mqtt.host import Host
from drivers.mqtt.session import opened
from drivers.mqtt.sparkplug import Births, Heard
from iot_core import sparkplug
from iot_core.model import Uplink
from iot_core.settings import Mqtt
from iot_core.sparkplug import Metric, Topic
from tests.drivers.test_mqtt.bench import Ingest, NoUnits, context, publish, running, until
from tests.sparkplug_wire import BOOLEAN, FLOAT, INT32, Node, Said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.servers import Mosquitto

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
MS = round(NOW.timestamp() * 1000)
LEVEL = Said(name="Level", alias=5, time=MS, type=INT32, value=-20)
POWER = Said(name="Lamp/Power", alias=5, time=MS, type=FLOAT, value=41.5)


class Kept:
    """What is remembered, and what is held until a birth."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.held: list[tuple[int, bytes, Uplink]] = []

    async def recall(self, address: str) -> Mapping[str, bytes]:
        return {key: state for key, state in self.states.items() if key == address or key.startswith(f"{address}/")}

    async def remember(self, states: Mapping[str, bytes]) -> None:
        self.states.update(states)

    async def waiting(self, address: str, since: datetime, after: int) -> Sequence[tuple[int, bytes, Uplink]]:
        return [row for row in self.held if row[0] > after and row[2].address == address and row[2].received_at > since]

    async def mend(self, mark: bytes, payload: bytes) -> None:
        for _, known, uplink in self.held:
            if known == mark:
                uplink.payload = payload

    async def let_go(self, mark: bytes) -> None:
        self.held = [row for row in self.held if row[1] != mark]


class Core:
    """The sessions of one run, with a clock that the test turns."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self.counted = Counter[str]()
        self.clock = 1000.0
        self.at = NOW
        self.births = Births(lambda event, by=1: self.counted.update({event: by}), lambda: self.clock)

    async def hears(self, kind: str, payload: bytes, *, device: str = "") -> Heard:
        self.at += timedelta(seconds=1)
        topic = Topic.read(f"spBv1.0/park/{kind}/node-1{'/' if device else ''}{device}")
        assert topic is not None
        await self.births.recall(topic, self.kept)
        heard = self.births.heard(topic, payload, self.at)
        await self.kept.remember(heard.kept)
        return heard


def metrics(heard: Heard) -> list[tuple[str, object, int]]:
    return [(each.name, each.value, each.quality) for each in sparkplug.read(heard.payload).metrics]


def short(said: Said, value: object) -> Said:
    """Say a metric as DATA does: by its alias alone."""
    return replace(said, name=None, type=None, value=value)


@pytest.fixture
def core() -> Core:
    return Core()


async def test_metric_known_by_its_alias_alone_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    heard = await core.hears("NDATA", node.message(short(LEVEL, -21), time=MS))
    assert metrics(heard) == [("Level", -21, 192)]
    assert not heard.ask


async def test_negative_numbers_of_a_name_without_its_type_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    named = replace(LEVEL, alias=None, type=None, value=-21)
    assert metrics(await core.hears("NDATA", node.message(named, time=MS))) == [("Level", -21, 192)]
    unborn = Core()
    heard = await unborn.hears("NDATA", Node().message(named, time=MS))
    assert heard.ask
    assert not sparkplug.read(heard.payload).metrics[0].whole, "4294967275 or -21: nobody can say"


async def test_an_alias_is_its_own_devices_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", node.message(POWER, time=MS), device="lamp-7")
    assert metrics(await core.hears("DDATA", node.message(short(POWER, 42.0), time=MS), device="lamp-7")) == [
        ("Lamp/Power", 42.0, 192)
    ]
    assert metrics(await core.hears("NDATA", node.message(short(LEVEL, 3), time=MS))) == [("Level", 3, 192)]


async def test_seq_wraps_from_255_to_0_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    for count in range(600):
        heard = await core.hears("NDATA", node.message(short(LEVEL, count), time=MS + count))
        assert metrics(heard) == [("Level", count, 192)]
        assert not heard.ask
    assert not core.counted


async def test_a_gap_in_seq_may_hide_a_birth_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    node.message(LEVEL, time=MS)  # lost
    heard = await core.hears("NDATA", node.message(short(LEVEL, 4), time=MS))
    assert heard.ask
    assert metrics(heard) == [("Level", 4, sparkplug.STALE)], "read, and not sure"
    whole = await core.hears("NDATA", node.message(LEVEL, time=MS))
    assert metrics(whole) == [("Level", -20, 192)], "what says its name rests on no birth"
    assert core.counted == {"sparkplug_gap": 1}
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    assert metrics(await core.hears("NDATA", node.message(short(LEVEL, 5), time=MS))) == [("Level", 5, 192)]


async def test_a_message_delivered_twice_is_no_gap_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    twice = node.message(short(LEVEL, 4), time=MS)
    for _ in range(2):
        assert not (await core.hears("NDATA", twice)).ask


async def test_a_node_is_asked_for_its_births_once_in_a_while(core: Core) -> None:
    node = Node()
    asked = [(await core.hears("NDATA", node.message(short(LEVEL, 1), time=MS))).ask for _ in range(5)]
    assert asked == [True, False, False, False, False]
    core.clock += 31
    assert (await core.hears("NDATA", node.message(short(LEVEL, 1), time=MS))).ask


async def test_bdseq_ties_a_birth_and_its_death_q01(core: Core) -> None:
    old, new = Node(bd_seq=3), Node(bd_seq=4)
    await core.hears("NBIRTH", old.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", old.message(POWER, time=MS), device="lamp-7")
    await core.hears("NBIRTH", new.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", new.message(POWER, time=MS), device="lamp-7")
    late = await core.hears("NDEATH", old.will())
    assert late.outdated, "the will of the connection before, sent when the broker noticed"
    assert metrics(await core.hears("NDATA", new.message(short(LEVEL, 1), time=MS))) == [("Level", 1, 192)]
    died = await core.hears("NDEATH", new.will())
    assert not died.outdated
    assert [each.address for each in died.dead] == ["sparkplug:park/node-1/lamp-7"]
    assert [each.text for each in died.dead] == ["spBv1.0/park/DDEATH/node-1/lamp-7"]


async def test_after_a_death_old_aliases_mean_nothing_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", node.message(POWER, time=MS), device="lamp-7")
    await core.hears("NDEATH", node.will())
    for kind, device, said in (("NDATA", "", LEVEL), ("DDATA", "lamp-7", POWER)):
        heard = await core.hears(kind, node.message(short(said, 1), time=MS), device=device)
        assert [each.whole for each in sparkplug.read(heard.payload).metrics] == [False]
    again = Core(core.kept)
    heard = await again.hears("NDATA", node.message(short(LEVEL, 1), time=MS))
    assert not sparkplug.read(heard.payload).metrics[0].whole, "nor after a restart"


async def test_a_device_can_die_alone_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", node.message(POWER, time=MS), device="lamp-7")
    await core.hears("DDEATH", node.message(time=MS), device="lamp-7")
    assert (await core.hears("NDEATH", node.will())).dead == (), "it went before its node"


async def test_a_will_that_is_delivered_again_takes_its_devices_along_once_more_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    for device in ("lamp-7", "lamp-8", "lamp-9"):
        await core.hears("DBIRTH", node.message(POWER, time=MS), device=device)
    await core.hears("DDEATH", node.message(time=MS), device="lamp-9")
    core.at += timedelta(seconds=1)
    went = [each.device for each in (await core.hears("NDEATH", node.will())).dead]
    assert went == ["lamp-7", "lamp-8"]
    core.at += timedelta(seconds=40)  # the store was away: nothing of it was stored, and the broker says it again
    assert [each.device for each in (await core.hears("NDEATH", node.will())).dead] == went
    again = Core(core.kept)
    again.at = core.at + timedelta(seconds=40)
    assert [each.device for each in (await again.hears("NDEATH", node.will())).dead] == went, "also after a restart"
    await again.hears("NBIRTH", node.birth(LEVEL, time=MS))
    assert (await again.hears("NDEATH", node.will())).dead == (), "born again alone, it dies alone"


async def test_aliases_survive_a_restart_of_the_core_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    await core.hears("DBIRTH", node.message(POWER, time=MS), device="lamp-7")
    again = Core(core.kept)
    heard = await again.hears("DDATA", node.message(short(POWER, 40.5), time=MS), device="lamp-7")
    assert metrics(heard) == [("Lamp/Power", 40.5, sparkplug.STALE)], "a birth may have been missed meanwhile"
    assert heard.ask
    await again.hears("NBIRTH", node.birth(LEVEL, time=MS))
    born = await again.hears("DBIRTH", node.message(POWER, time=MS), device="lamp-7")
    assert not born.kept, "nothing new to remember"
    sure = await again.hears("DDATA", node.message(short(POWER, 40.0), time=MS), device="lamp-7")
    assert metrics(sure) == [("Lamp/Power", 40.0, 192)]


async def test_an_alias_that_changed_its_kind_is_not_guessed_q01(core: Core) -> None:
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    for other in (
        replace(LEVEL, name=None, type=BOOLEAN, value=True),
        replace(LEVEL, name=None, type=None, value=True),
    ):
        heard = await core.hears("NDATA", node.message(other, time=MS))
        assert not sparkplug.read(heard.payload).metrics[0].whole
        core.clock += 60


async def test_what_waits_is_read_by_a_birth_of_the_same_session_only_q01(core: Core) -> None:
    node = Node(bd_seq=1)
    first = await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    assert first.waited_since == datetime.fromtimestamp(0, UTC)
    same = await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    assert same.waited_since == datetime.fromtimestamp(0, UTC), "born again because we asked"
    other = Node(bd_seq=2)
    changed = await core.hears("NBIRTH", other.birth(LEVEL, time=MS))
    assert changed.waited_since == core.at, "aliases from before it may have meant something else"
    topic = Topic.read("spBv1.0/park/NDATA/node-1")
    assert topic is not None
    waiting = other.message(short(LEVEL, -7), time=MS)
    completed = core.births.completed(topic, waiting)
    assert completed is not None
    assert sparkplug.read(completed).metrics == (Metric(name="Level", alias=5, time=MS, type=INT32, value=-7),)
    assert core.births.completed(topic, b"\xff") is None


async def test_garbage_goes_on_as_it_came(core: Core) -> None:
    for kind in ("NBIRTH", "NDATA", "NDEATH"):
        for payload in (b"\xff\xff", b"") if kind != "NDEATH" else (b"\xff\xff",):
            assert (await core.hears(kind, payload)).payload == payload


async def test_nodes_beyond_the_bound_are_recalled_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_NODES", 2)
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    for number in range(5):
        topic = Topic.read(f"spBv1.0/park/NDATA/other-{number}")
        assert topic is not None
        await core.births.recall(topic, core.kept)
    assert len(core.births._nodes) <= 2
    assert metrics(await core.hears("NDATA", node.message(short(LEVEL, 2), time=MS))) == [("Level", 2, 500)]


async def test_devices_of_ever_other_names_fill_no_memory(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_DEVICES", 3)
    node = Node()
    await core.hears("NBIRTH", node.birth(LEVEL, time=MS))
    for number in range(9):
        birth = node.message(LEVEL, time=MS)
        assert (await core.hears("DBIRTH", birth, device=f"board-{number}")).payload == birth
        await core.hears("DDEATH", node.message(time=MS), device=f"gone-{number}")
    assert len(core.kept.states) == 3
    assert core.counted["sparkplug_too_many_devices"] > 0
    assert metrics(await core.hears("NDATA", node.message(short(LEVEL, 2), time=MS))) == [("Level", 2, 192)]


async def test_data_before_a_birth_is_asked_for_over_a_real_broker_and_follows_the_birth(mosquitto: Mosquitto) -> None:
    kept, ingest, node = Kept(), Ingest(), Node()
    made = replace(context(mosquitto.port), sessions=kept)
    asked = ingest_of_commands(mosquitto)
    units = NoUnits("sparkplug:park/node-1")
    async with asked as commands, running(made, ingest.emit, units) as driver:
        await until(lambda: driver._outlet._link is not None, what="who asks is connected, too")
        early = node.message(short(LEVEL, -3), time=MS)
        await send(mosquitto, "spBv1.0/park/NDATA/node-1", early)
        await until(lambda: ingest.taken, what="the data is handed over as it came")
        assert ingest.taken[0].payload == early
        kept.held = [(1, b"mark", held(ingest.taken[0]))]
        await until(lambda: commands, what="the node is asked")
        assert commands[0][0] == "spBv1.0/park/NCMD/node-1"
        (asks,) = sparkplug.read(commands[0][1]).metrics
        assert (asks.name, asks.value, asks.type) == ("Node Control/Rebirth", True, BOOLEAN)
        await send(mosquitto, "spBv1.0/park/NBIRTH/node-1", node.birth(LEVEL, time=MS))
        await until(lambda: len(ingest.taken) == 3, what="birth, and what waited for it")
        await until(lambda: not kept.held, what="it is held no longer")
        await send(mosquitto, "spBv1.0/park/NDEATH/node-1", node.will())
        await until(lambda: len(ingest.taken) == 4)
    replayed = ingest.taken[2]
    assert replayed.address == "sparkplug:park/node-1"
    assert sparkplug.read(replayed.payload).metrics[0].name == "Level"
    assert replayed.received_at == ingest.taken[0].received_at, "its own arrival"


async def test_what_a_stranger_said_waits_on_whole(mosquitto: Mosquitto) -> None:
    kept, ingest, node = Kept(), Ingest(), Node()
    async with running(replace(context(mosquitto.port), sessions=kept), ingest.emit):
        await send(mosquitto, "spBv1.0/park/NDATA/node-1", node.message(short(LEVEL, -3), time=MS))
        await until(lambda: ingest.taken)
        kept.held = [(1, b"mark", held(ingest.taken[0]))]
        await send(mosquitto, "spBv1.0/park/NBIRTH/node-1", node.birth(LEVEL, time=MS))
        await until(lambda: sparkplug.read(kept.held[0][2].payload).metrics[0].name == "Level", what="it is mended")
    assert len(ingest.taken) == 2, "the inbox has it already"


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_node_that_waits_for_a_primary_host_goes_on(mosquitto: Mosquitto, version: str) -> None:
    """Sparkplug 3.0.0, 5.14: STATE is retained, `online` while the core hands over, `offline` by will and goodbye."""
    host = f"ioc-{version.replace('.', '')}"
    made = context(mosquitto.port, mqtt=Mqtt(sparkplug_host=host, version=version, client_id=host))
    state, ingest = f"spBv1.0/STATE/{host}", Ingest()
    async with listening_to(mosquitto, state) as heard:
        async with running(made, ingest.emit):
            await until(lambda: heard, what="the core says that it is there")
            (said,) = heard
            assert set(said) == {"online", "timestamp"}
            assert said["online"] is True
            assert abs(said["timestamp"] / 1000 - datetime.now(UTC).timestamp()) < 60
            # The will of a connection before, which the broker noticed late.
            late = b'{"online": false, "timestamp": 1}'
            await publish(mosquitto, "-t", state, "-r", "-q", "1", "-m", late.decode())
            await until(lambda: heard[2:], what="the core contradicts it")
            assert heard[2:] == [said]
            await publish(mosquitto, "-t", state, "-r", "-q", "1", "-m", "OFFLINE")  # no word of ours
            async with listening_to(mosquitto, f"{state}/none", state) as later:
                await until(lambda: later, what="retained, for a node that comes later")
            await publish(mosquitto, "-t", "iot/v1/d/telemetry", "-q", "1", "-m", "{}")
            await until(lambda: ingest.taken, what="STATE is acknowledged, and what follows it is read")
        await until(lambda: heard[4:], what="goodbye; the will may say it once more")
    assert all(each == said | {"online": False} for each in heard[4:])
    assert [uplink.address for uplink in ingest.taken] == ["iot:d"], "STATE is nobody's telemetry"


async def test_a_core_that_died_is_no_host_any_more(mosquitto: Mosquitto) -> None:
    host = Host("ioc-killed")
    made = opened(context(mosquitto.port).broker, Mqtt(), "killed", keep=False, will=host.will())
    async with listening_to(mosquitto, host.topic) as heard, made as session:
        session.retain(host.topic, host.online())
        await until(lambda: heard)
        assert session._transport is not None
        session._transport.abort()  # no goodbye, as after a SIGKILL
        await until(lambda: heard[1:], what="the broker says it")
    assert heard[1] == heard[0] | {"online": False}


def held(uplink: Uplink) -> Uplink:
    """Give an uplink as it comes back from the held ones: nobody waits for it."""
    return Uplink(
        driver="mqtt", address=uplink.address, topic=uplink.topic, payload=uplink.payload,
        received_at=uplink.received_at,
    )  # fmt: skip


@asynccontextmanager
async def listening_to(broker: Mosquitto, *topics: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Hear STATE as a node's own client would; what is no JSON is heard as an empty table."""
    heard: list[dict[str, Any]] = []
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for topic in topics:
            await client.subscribe(topic, qos=1)

        async def listen() -> None:
            async for message in client.messages:
                text = bytes(message.payload)
                heard.append(json.loads(text) if text.startswith(b"{") else {})

        task = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def ingest_of_commands(broker: Mosquitto) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Hear what nodes are told, as a node's own client would."""
    heard: list[tuple[str, bytes]] = []
    async with aiomqtt.Client(broker.host, broker.port) as client:
        await client.subscribe("spBv1.0/+/NCMD/+")

        async def listen() -> None:
            async for message in client.messages:
                heard.append((str(message.topic), bytes(message.payload)))  # noqa: PERF401 - it is looked at meanwhile

        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def send(broker: Mosquitto, topic: str, payload: bytes) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as client:
        await client.publish(topic, payload, qos=1)
