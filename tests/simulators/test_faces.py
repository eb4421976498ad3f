"""Simulated devices are understood by clients and servers that are not ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import aiocoap
import cbor2
import pytest
from aiocoap import resource
from pymodbus.client import AsyncModbusTcpClient

from drivers.modbus.address import Endpoint
from drivers.modbus.lone import lone
from drivers.modbus.poller import ModbusDriver
from drivers.modbus.scan import scan
from iot_core.profiles import load
from iot_core.settings import Modbus
from simulators.device import Message, SimDevice
from simulators.faces.coap import CoapFace
from simulators.faces.modbus import gateway, unit_of
from simulators.faces.mqtt import MqttFace
from simulators.faces.pace import spoken
from simulators.faults import Broken, Fault
from simulators.fleet import plan_of
from simulators.ledger import Ledger
from simulators.physics import Fire
from simulators.physics.fire import ULTRA_FAST
from simulators.secret import Secrets
from tests.drivers import wire_edges
from tests.servers import Mosquitto
from tests.simulators.conftest import device

PATIENCE_S = 20


async def output(*command: str) -> str:
    """Run a program to its end."""
    async with asyncio.timeout(PATIENCE_S):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said
        return said.decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(face: MqttFace | CoapFace, *devices: SimDevice) -> AsyncIterator[asyncio.Event]:
    """Let devices speak while the block lasts, and finish their sentences."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(face.run(each, stop)) for each in devices]
        yield stop
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(tasks)


@asynccontextmanager
async def heard_by_mosquitto_sub(broker: Mosquitto, topic: str) -> AsyncIterator[list[tuple[str, bool, str]]]:
    """Collect (topic, retained, payload) as mosquitto_sub prints them."""
    heard: list[tuple[str, bool, str]] = []
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL",  # mosquitto_sub fills a block before it writes to a pipe
        "mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-q", "1", "-t", topic, "-F", "%t\t%r\t%p", "-d",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    subscribed = asyncio.Event()

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if b"SUBACK" in line:
                subscribed.set()
            parts = line.decode().rstrip("\n").split("\t")
            if len(parts) == 3:
                heard.append((parts[0], parts[1] == "1", parts[2]))

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        async with asyncio.timeout(PATIENCE_S):
            await subscribed.wait()
        try:
            yield heard
        finally:
            process.terminate()
            await process.wait()


def mqtt(broker: Mosquitto, ledger: Ledger, every: float = 0.1) -> MqttFace:
    return MqttFace(host=broker.host, port=broker.port, ledger=ledger, every=every)


async def test_mosquitto_sub_hears_every_observation_once_with_time_and_growing_seq(mosquitto: Mosquitto) -> None:
    ledger, it = Ledger(), device("native-water-meter", "mqtt")
    async with heard_by_mosquitto_sub(mosquitto, f"iot/v1/{it.key}/telemetry") as heard:
        async with running(mqtt(mosquitto, ledger), it):
            await until(lambda: len(heard) >= 5)
        await until(lambda: len(heard) == len(ledger.sent))
    said = [json.loads(payload) for _, _, payload in heard]
    assert [each["seq"] for each in said] == list(range(1, len(said) + 1))
    assert {each["run"] for each in said} == {"r1"}
    assert [datetime.fromisoformat(each["time"]) for each in said] == [line.time for line in ledger.sent]
    assert all(line.acknowledged for line in ledger.sent)
    assert [each["volume"] for each in said] == [line.values["volume"] for line in ledger.sent]


async def test_a_buffering_device_sends_arrays_of_five(mosquitto: Mosquitto) -> None:
    ledger, it = Ledger(), device("native-air-quality", "mqtt", buffered=5)
    async with heard_by_mosquitto_sub(mosquitto, f"iot/v1/{it.key}/telemetry") as heard:
        async with running(mqtt(mosquitto, ledger, 0.02), it):
            await until(lambda: len(heard) >= 2)
        await until(lambda: len(heard) * 5 == len(ledger.sent))
    assert {len(json.loads(payload)) for _, _, payload in heard} == {5}


async def test_presence_is_retained_and_says_offline_at_the_end(mosquitto: Mosquitto) -> None:
    it = device("native-streetlight", "mqtt")
    topic = f"iot/v1/{it.key}/status"
    async with heard_by_mosquitto_sub(mosquitto, topic) as heard:
        async with running(mqtt(mosquitto, Ledger()), it):
            await until(lambda: bool(heard))
        await until(lambda: len(heard) == 2)
    assert [payload for _, _, payload in heard] == ["online", "offline"]
    where = ("-h", mosquitto.host, "-p", str(mosquitto.port))
    kept = await output("mosquitto_sub", *where, "-t", topic, "-C", "1", "-W", "15")
    assert kept == "offline\n"


async def test_the_broker_speaks_the_last_will_of_a_device_that_was_cut_off_and_it_comes_back(
    mosquitto: Mosquitto,
) -> None:
    ledger, it = Ledger(), device("native-streetlight", "mqtt")
    async with heard_by_mosquitto_sub(mosquitto, f"iot/v1/{it.key}/#") as heard:
        async with running(mqtt(mosquitto, ledger), it):
            await until(lambda: len(ledger.sent) > 2)
            # The same client id from elsewhere: the broker closes the first connection (MQTT 3.1.4).
            where = ("-h", mosquitto.host, "-p", str(mosquitto.port))
            await output("mosquitto_pub", *where, "-i", it.key, "-t", "x", "-n")
            await until(lambda: [p for t, _, p in heard if t.endswith("status")] == ["online", "offline", "online"])
            before = len(ledger.sent)
            await until(lambda: len(ledger.sent) > before + 2)
        await until(lambda: heard[-1][2] == "offline")
    told = {json.loads(payload)["seq"] for topic, _, payload in heard if topic.endswith("telemetry")}
    assert told == set(range(1, it.seq + 1))


@pytest.mark.parametrize("model", ["tasmota-energy", "zigbee2mqtt-smoke", "shelly-gen2"])
async def test_vendors_speak_on_their_own_topics(mosquitto: Mosquitto, model: str) -> None:
    ledger, it = Ledger(), device(model, "mqtt")
    patterns = [topic.replace("{address}", it.key) for topic in it.plan.voice.profile.topics]
    async with heard_by_mosquitto_sub(mosquitto, "#") as heard, running(mqtt(mosquitto, ledger), it):
        await until(lambda: len(heard) >= 4)
    assert {topic for topic, _, _ in heard} <= set(patterns)


async def test_a_detector_does_not_wait_for_its_beat_when_it_sees_smoke() -> None:
    it, stop = device("native-fire-detector", "mqtt"), asyncio.Event()
    beat = spoken(it, 3600, stop)
    loop = asyncio.get_running_loop()
    burning = Fire(ignited=_now() - timedelta(seconds=30), growth=ULTRA_FAST)
    loop.call_later(0.6, lambda: it.ignite(burning))
    async with asyncio.timeout(PATIENCE_S):
        message = await anext(beat)
    assert message.said[0][1]["smoke"] is True
    stop.set()
    assert [each async for each in beat] == []


class _Site(resource.Resource):  # type: ignore[misc]
    """Takes posts, refusing the first ones."""

    def __init__(self, refusals: int, word: aiocoap.Code) -> None:
        super().__init__()
        self.refusals, self.word = refusals, word
        self.got: list[tuple[int, bytes, str, bool]] = []

    async def render_post(self, request: Any) -> Any:
        confirmable = request.mtype is aiocoap.CON
        self.got.append((int(request.opt.content_format), request.payload, request.opt.uri_query[0], confirmable))
        if len(self.got) <= self.refusals:
            return aiocoap.Message(code=self.word)
        return aiocoap.Message(code=aiocoap.CHANGED)


@asynccontextmanager
async def coap_server(
    port: int, key: str, refusals: int = 0, word: aiocoap.Code = aiocoap.SERVICE_UNAVAILABLE
) -> AsyncIterator[_Site]:
    site, mine = resource.Site(), _Site(refusals, word)
    site.add_resource(("v1", key, "telemetry"), mine)
    context = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
    try:
        yield mine
    finally:
        await context.shutdown()


def _one_with(content_format: int) -> SimDevice:
    from tests.simulators.conftest import planned  # noqa: PLC0415

    found = next(
        each
        for each in planned(400)
        if each.voice.content_format == content_format and each.model == "native-water-meter"
    )
    return SimDevice(found, f"iot:{found.key}", secrets=Secrets("s3cret"), run="r1")


@pytest.mark.parametrize(
    ("content_format", "read"),
    [(50, json.loads), (110, json.loads), (112, cbor2.loads)],
    ids=["json", "senml json", "senml cbor"],
)
async def test_coap_posts_are_confirmable_and_carry_token_and_format(
    free_port: Callable[[], int], content_format: int, read: Callable[[bytes], Any]
) -> None:
    ledger, it, port = Ledger(), _one_with(content_format), free_port()
    async with coap_server(port, it.key) as server:
        async with running(CoapFace(host="127.0.0.1", port=port, ledger=ledger, every=0.05), it):
            await until(lambda: len(server.got) >= 3)
        assert len(server.got) == len(ledger.sent)
    assert {(form, query, con) for form, _, query, con in server.got} == {(content_format, "token=s3cret", True)}
    assert all(read(payload) for _, payload, _, _ in server.got)
    assert all(line.acknowledged for line in ledger.sent)
    assert len(ledger.committed_ms) == len(ledger.sent)


async def test_a_coap_device_says_again_what_the_server_could_not_take(free_port: Callable[[], int]) -> None:
    ledger, it, port = Ledger(), _one_with(50), free_port()
    face = CoapFace(host="127.0.0.1", port=port, ledger=ledger, every=0.05)
    async with coap_server(port, it.key, refusals=1) as server, running(face, it):
        await until(lambda: len(server.got) >= 3)
    assert server.got[0][1] == server.got[1][1] != server.got[2][1]
    assert all(line.acknowledged for line in ledger.sent)
    assert ledger.problems["coap: 5.03"] == 1


async def test_a_coap_device_does_not_say_again_what_nobody_can_read(free_port: Callable[[], int]) -> None:
    ledger, it, port = Ledger(), _one_with(50), free_port()
    it.fault = _AlwaysBroken()
    face = CoapFace(host="127.0.0.1", port=port, ledger=ledger, every=0.05)
    async with coap_server(port, it.key, 1_000, aiocoap.BAD_REQUEST) as server, running(face, it):
        await until(lambda: len(server.got) >= 3)
    assert len({payload for _, payload, _, _ in server.got}) == len(server.got) == ledger.broken
    assert (ledger.sent, ledger.problems) == ([], {})


class _AlwaysBroken(Broken):
    def _strikes(self, _device: SimDevice, _message: Message) -> bool:
        return True


async def test_a_unit_that_is_away_is_its_gateways_word_and_not_counted(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    (it, unit) = _meters(port, 1)[0]
    it.fault = _Away()
    async with gateway([unit_of(it, unit)], port, ledger), AsyncModbusTcpClient("127.0.0.1", port=port) as client:
        answer = await client.read_holding_registers(0, count=2, device_id=unit)
    assert answer.exception_code == 11
    assert ledger.sent == []


class _Away(Fault):
    def away(self, _device: SimDevice, _now: datetime) -> bool:
        return True


def _meters(port: int, *unit_ids: int) -> list[tuple[SimDevice, int]]:
    return [(device("tuf-2000m", "modbus", address=f"127.0.0.1:{port}/{unit}"), unit) for unit in unit_ids]


async def mbpoll(port: int, unit: int, *arguments: str) -> list[float]:
    """Read with mbpoll; addresses 0-based."""
    where = ("-m", "tcp", "-p", str(port), "-a", str(unit))
    said = await output("mbpoll", *where, "-0", "-1", "-q", *arguments, "127.0.0.1")
    return [float(value) for value in re.findall(r"^\[\d+\]:\s+(\S+)", said, re.MULTILINE)]


async def test_mbpoll_reads_the_registers_of_several_units_behind_one_gateway(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    units = [unit_of(it, unit) for it, unit in _meters(port, 1, 7)]
    async with gateway(units, port, ledger):
        for unit in units:
            # 32-bit values; mbpoll's own order is low word first, as this meter's is.
            flow = await mbpoll(port, unit.unit_id, "-t", "4:float", "-r", "0", "-c", "1")
            assert flow[0] == pytest.approx(float(unit.device.measure(_now())["flow"]), rel=0.05)
            before = unit.device.measure(_now())["volume"]
            (whole,) = await mbpoll(port, unit.unit_id, "-t", "4:int", "-r", "8", "-c", "1")
            assert int(float(before)) <= whole <= float(unit.device.measure(_now())["volume"])
    assert ledger.sent == []


async def test_a_scan_names_simulated_meters_by_what_they_say_of_themselves(free_port: Callable[[], int]) -> None:
    models = ("eastron-sdm120", "eastron-sdm230", "eastron-sdm630", "schneider-iem3155", "sunspec-meter-203")
    port = free_port()
    meters = [SimDevice(each, "") for each in plan_of(load(), models, devices=len(models), seed=1)]
    async with gateway([unit_of(it, unit) for unit, it in enumerate(meters, 1)], port, Ledger()):
        place = Endpoint("127.0.0.1", port)
        async with lone(place, 2) as exchange:
            found = [each async for each in scan(place, [1, 2, 3, 4, 5, 6], load().all(), exchange, 2)]
    assert tuple(each.model for each in found if each is not None) == models


async def test_simulated_devices_behind_a_serial_server_are_polled_as_rtu(free_port: Callable[[], int]) -> None:
    port, ledger, edges = free_port(), Ledger(), wire_edges.Edges()
    units = [unit_of(it, unit) for it, unit in _meters(port, 1, 7)]
    mounted = [wire_edges.unit(f"modbus://rtu@127.0.0.1:{port}/{each.unit_id}", profile="tuf-2000m") for each in units]
    async with gateway(units, port, ledger, rtu=True):
        driver = ModbusDriver(edges.context(modbus=Modbus(timeout_s=10), profiles=load()))
        async with wire_edges.running(driver, wire_edges.Mounted(*mounted), edges.ingest):
            await until(lambda: len({uplink.address for uplink in edges.ingest.uplinks}) == 2)
    assert not edges.counted["modbus_timeouts"]


def _now() -> datetime:
    from simulators.device import now_ms  # noqa: PLC0415

    return now_ms()


async def test_a_complete_cycle_is_one_observation_and_a_part_of_one_is_none(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    (unit,) = (unit_of(it, unit) for it, unit in _meters(port, 3))
    async with gateway([unit], port, ledger):
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert await client.connect()
        try:
            await client.read_holding_registers(0, count=2, device_id=3)
            await client.read_holding_registers(0, count=2, device_id=3)  # it begins anew
            await client.read_holding_registers(8, count=4, device_id=3)
            assert ledger.sent == []
            answer = await client.read_holding_registers(32, count=2, device_id=3)
            assert len(ledger.sent) == 1
            again = await client.read_holding_registers(0, count=34, device_id=3)
            assert len(ledger.sent) == 2
        finally:
            client.close()
    first, second = ledger.sent
    assert first.acknowledged
    assert first.time is None
    temperature = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32, word_order="little")
    assert temperature == pytest.approx(first.values["temperature"])
    flow = client.convert_from_registers(again.registers[:2], client.DATATYPE.FLOAT32, word_order="little")
    assert flow == pytest.approx(second.values["flow"])


async def test_two_clients_do_not_disturb_each_others_cycles(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    (unit,) = (unit_of(it, unit) for it, unit in _meters(port, 3))
    async with gateway([unit], port, ledger):
        poller = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert await poller.connect()
        try:
            await poller.read_holding_registers(0, count=2, device_id=3)
            await poller.read_holding_registers(8, count=4, device_id=3)
            await mbpoll(port, 3, "-t", "4:float", "-r", "0", "-c", "1")
            await poller.read_holding_registers(32, count=2, device_id=3)
        finally:
            poller.close()
    assert len(ledger.sent) == 1


async def test_a_gateway_answers_with_an_exception_for_units_and_registers_that_are_not_there(
    free_port: Callable[[], int],
) -> None:
    port, ledger = free_port(), Ledger()
    (unit,) = (unit_of(it, unit) for it, unit in _meters(port, 3))
    async with gateway([unit], port, ledger):
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert await client.connect()
        try:
            nobody = await client.read_holding_registers(0, count=2, device_id=9)
            nowhere = await client.read_holding_registers(500, count=2, device_id=3)
            write = await client.write_register(0, 1, device_id=3)
        finally:
            client.close()
    assert (nobody.exception_code, nowhere.exception_code, write.exception_code) == (0x0B, 2, 1)


async def test_a_silent_gateway_ends_the_cycle_it_has_begun(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    (unit,) = (unit_of(it, unit) for it, unit in _meters(port, 3))
    async with gateway([unit], port, ledger) as server:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert await client.connect()
        try:
            await client.read_holding_registers(0, count=2, device_id=3)
            server.silent = True
            await client.read_holding_registers(8, count=4, device_id=3)
            await client.read_holding_registers(32, count=2, device_id=3)
            assert not server.busy
        finally:
            client.close()
    assert len(ledger.sent) == 1


async def test_a_silent_gateway_says_nothing_more(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    (unit,) = (unit_of(it, unit) for it, unit in _meters(port, 3))
    async with gateway([unit], port, ledger) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = bytes.fromhex("000100000006030300000022")
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read(9)
        server.silent = True
        writer.write(request)
        await asyncio.sleep(0.2)
        assert len(ledger.sent) == 1
        writer.close()
        await writer.wait_closed()
