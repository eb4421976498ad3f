"""A write whose answer was lost on the way is done once: the same device, and its secret, for ten minutes."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.api import shapes
from iot_core.cli.unanswered import Unanswered
from iot_core.client import Client
from iot_core.errors import ConflictError, RequestError
from iot_core.registry.passwords import check_secret
from iot_core.store.vault import Vault
from tests.api.city import City, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NEW = {"key": "lamp-1", "class": "streetlight"}
KEY = {"Idempotency-Key": "0123456789abcdef"}


@dataclass
class Cutting:
    """A proxy that passes requests on and cuts the first answers off."""

    port: int = 0
    cut: int = 1
    passed: int = 0


@asynccontextmanager
async def cutting(city: City, cut: int) -> AsyncIterator[Cutting]:
    """Put a proxy between client and core that cuts the connection when the first `cut` answers begin."""
    proxy = Cutting(cut=cut)
    upstream = int(city.url.rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", upstream)

        async def up() -> None:
            while data := await reader.read(65_536):
                there_writer.write(data)
                await there_writer.drain()

        sending = asyncio.create_task(up())
        try:
            while data := await there_reader.read(65_536):
                proxy.passed += 1
                if proxy.cut > 0:
                    proxy.cut -= 1
                    break
                writer.write(data)
                await writer.drain()
        finally:
            sending.cancel()
            writer.close()
            there_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy


@pytest.mark.parametrize("cut", [1, 2])
async def test_a_device_added_again_after_a_dropped_answer_is_the_same_with_its_secret(city: City, cut: int) -> None:
    said: list[int] = []
    async with (
        cutting(city, cut) as proxy,
        Client(
            f"http://127.0.0.1:{proxy.port}", city.tokens["admin"], lang="en",
            retrying=lambda attempt, _: said.append(attempt),
        ) as client,
    ):  # fmt: skip
        added = await client.add_device(shapes.DeviceNew(key="lamp-1", class_key="streetlight"))
    assert said == list(range(1, cut + 1))
    assert added.secret
    assert await city.path.pool.fetchval("SELECT count(*) FROM iot.device") == 1
    assert await city.path.pool.fetchval("SELECT count(*) FROM iot.audit WHERE action = 'device.add'") == 1
    hashed = await city.path.pool.fetchval("SELECT secret_hash FROM iot.unit")
    assert check_secret(added.secret, hashed), "the secret that was given at last is the one the device signs in with"


async def test_a_command_typed_again_after_the_network_went_gives_the_same_device_and_its_secret(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_CONTEXTS_DIR", str(tmp_path))
    token = city.tokens["admin"]

    async def add(key: str = "lamp-1") -> shapes.DeviceAdded:
        kept = Unanswered(url, token)
        async with Client(url, token, lang="en", retries=0, unanswered=kept) as client:
            return await client.add_device(shapes.DeviceNew(key=key, class_key="streetlight"))

    async with cutting(city, 2) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        for _ in range(2):
            with pytest.raises(RequestError):
                await add()
        added = await add()
        assert added.secret
        hashed = await city.path.pool.fetchval("SELECT secret_hash FROM iot.unit")
        assert check_secret(added.secret, hashed)
        with pytest.raises(ConflictError):  # the answer came: this is another wish
            await add()
        proxy.cut = 1
        with pytest.raises(RequestError):
            await add("lamp-2")
        for each in (tmp_path / "iot" / "unanswered").iterdir():
            os.utime(each, (time.time() - 601,) * 2)
        with pytest.raises(ConflictError):
            await add("lamp-2")


async def test_a_client_gives_up_after_its_retries_with_one_sentence(city: City) -> None:
    async with (
        cutting(city, 99) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", city.tokens["admin"], lang="en", retries=1) as client,
    ):
        with pytest.raises(RequestError, match=r"api\.cut_off"):
            await client.sign_in_code()
    assert proxy.passed == 2


async def test_the_same_key_gives_the_same_answer_and_says_so(city: City) -> None:
    first, second = [await _add(city) for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert first.data == second.data
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_two_that_come_at_once_with_one_key_do_it_once(city: City) -> None:
    replies = await asyncio.gather(*(_add(city) for _ in range(8)))
    assert {reply.status for reply in replies} == {201}
    assert len({reply.data for reply in replies}) == 1


async def test_a_key_stands_for_one_request_of_one_asker(city: City) -> None:
    await _add(city)
    other = await _add(city, key="lamp-2")
    assert (other.status, other.json["code"]) == (409, "api.other_request")
    somebody = await city.ask("POST", "/devices", role="technician", headers=KEY, json=NEW)
    assert (somebody.status, somebody.json["code"]) == (409, "registry.device_exists")
    for bad in ("short", "x" * 200, "with blanks and such"):
        reply = await city.ask("POST", "/devices", headers={"Idempotency-Key": bad}, json=NEW)
        assert (reply.status, reply.json["code"]) == (400, "api.bad_idempotency_key")


async def test_a_refused_write_may_be_tried_again_with_its_key(city: City) -> None:
    refused = await _add(city, area="nowhere")
    assert refused.status == 404
    async with city.client() as client:
        await client.add_area(shapes.AreaNew(key="nowhere", name="Somewhere"))
    assert (await _add(city, area="nowhere")).status == 201


async def test_a_kept_answer_outlives_a_restart_is_sealed_and_ends_after_ten_minutes(
    shipped_dsn: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    vault = Vault(tmp_path / "master.keys")
    vault.make()
    async with served(shipped_dsn, free_port(), vault=vault) as city:
        first = await _add(city)
        tokens = dict(city.tokens)
        kept = await city.path.pool.fetchval("SELECT body FROM iot.answer")
        assert first.json["secret"].encode() not in kept
    async with served(shipped_dsn, free_port(), vault=vault) as city:
        city.tokens |= tokens
        assert (await _add(city)).data == first.data
        await city.path.pool.execute("UPDATE iot.answer SET created_at = now() - interval '11 minutes'")
        late = await _add(city)
        assert (late.status, late.json["code"]) == (409, "api.done_already")
        assert isinstance(late.json["facts"]["operation"], int)
        await city.ask(
            "POST", "/areas", headers={"Idempotency-Key": "another-key-0001"}, json={"key": "a", "name": "A"}
        )
        assert await city.path.pool.fetchval("SELECT count(*) FROM iot.answer") == 1, "the old one is forgotten"


async def test_a_core_killed_before_it_could_keep_the_answer_does_not_do_it_twice(city: City) -> None:
    await _add(city)
    await city.path.pool.execute("DELETE FROM iot.answer")  # what a SIGKILL between COMMIT and keeping leaves
    again = await _add(city)
    assert (again.status, again.json["code"]) == (409, "api.done_already")
    with pytest.raises(ConflictError):
        async with city.client() as client:
            await client.add_device(shapes.DeviceNew(key="lamp-1", class_key="streetlight"))


async def _add(city: City, **more: Any) -> Any:
    return await city.ask("POST", "/devices", headers=KEY, json=NEW | more)
