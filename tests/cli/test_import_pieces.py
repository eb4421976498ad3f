"""A list longer than one request is judged as a whole; one that is cut off loses no secret and does nothing twice."""

from __future__ import annotations

import asyncio
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from iot_core.api import shapes
from iot_core.cli import importing
from iot_core.cli.root import iot
from iot_core.registry import devices
from tests.api.city import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.api.city import City

HEAD = "key,profile,address,gateway\n"


@dataclass
class Desk:
    """A technician with a list, at a core that takes two rows a request."""

    city: City
    folder: Path

    @property
    def secrets(self) -> list[list[str]]:
        kept = self.folder / "list-secrets.csv"
        return list(csv.reader(kept.read_text().splitlines())) if kept.exists() else []

    async def take(self, rows: str, *options: str) -> tuple[int, dict[str, Any]]:
        """Import a list; give the exit code and the answer."""
        path = self.folder / "list.csv"
        path.write_text(HEAD + rows)
        server = ("--url", self.city.url, "--token", self.city.tokens["admin"], "--output", "json")
        run = ["device", "import", str(path), "--yes", *options, *server]
        ended = await asyncio.to_thread(CliRunner().invoke, iot, run)
        return ended.exit_code, json.loads(ended.stdout) if ended.stdout else {}

    async def gateway_of(self, key: str) -> str | None:
        async with self.city.client() as client:
            return (await client.device(key)).gateway


@pytest.fixture
async def desk(
    shipped_dsn: str, free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setattr(importing, "CHUNK", 2)
    async with served(shipped_dsn, free_port()) as city:
        yield Desk(city, tmp_path)


def lamps(number: int) -> str:
    return "".join(f"lamp-{n},native-streetlight,,\n" for n in range(number))


def wrong(said: dict[str, Any]) -> dict[tuple[int, str], str]:
    return {(each["row"], each["column"]): each["code"] for each in said["problems"]}


async def test_doubles_are_found_however_far_apart_they_stand(desk: Desk) -> None:
    meters = "m-1,tuf-2000m,10.0.3.7/4,\n" + lamps(3) + "m-2,tuf-2000m,10.0.3.7/4,\nlamp-0,native-streetlight,,\n"
    code, said = await desk.take(meters)
    assert code == 1
    assert wrong(said) == {(6, "address"): "registry.row_twice", (7, "key"): "registry.row_twice"}
    assert said["added"] == 4
    code, said = await desk.take(meters, "--skip-bad")
    assert (code, said["added"], len(said["problems"])) == (0, 4, 2)


async def test_a_gateway_may_stand_anywhere_in_the_list_but_not_outside_of_it(desk: Desk) -> None:
    rows = (
        "leaf-1,native-streetlight,,hub-1\n" + lamps(4) + "leaf-2,native-streetlight,,hub-1\n"
        "hub-1,native-lighting-cabinet,,hub-0\nhub-0,native-lighting-cabinet,,\nleaf-3,native-streetlight,,hub-9\n"
    )
    code, said = await desk.take(rows)
    assert (code, wrong(said)) == (1, {(10, "gateway"): "registry.no_gateway"})
    code, said = await desk.take(rows, "--skip-bad")
    assert (code, said["added"]) == (0, 8)
    assert [await desk.gateway_of(key) for key in ("leaf-1", "leaf-2", "hub-1")] == ["hub-1", "hub-1", "hub-0"]
    code, said = await desk.take(rows, "--skip-bad")
    assert (said["added"], said["changed"], said["unchanged"]) == (0, 0, 8)


async def test_behind_a_gateway_that_is_wrong_nothing_is_written(desk: Desk) -> None:
    rows = "hub-1,no-such-model,,\n" + lamps(2) + "leaf-1,native-streetlight,,hub-1\n"
    code, said = await desk.take(rows)
    assert code == 1
    assert wrong(said) == {(2, "profile"): "profile.unknown", (5, "gateway"): "registry.no_gateway"}


async def test_an_answer_that_a_cut_took_comes_again_with_its_secrets_and_nothing_is_written_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = importing._keep

    def killed(path: Path, added: tuple[shapes.SecretOnce, ...], *, again: bool) -> int:
        if any(each.key == "lamp-2" for each in added):
            raise RuntimeError
        return keep(path, added, again=again)

    monkeypatch.setattr(importing, "_keep", killed)
    assert (await desk.take(lamps(5)))[0] != 0
    assert [row[0] for row in desk.secrets] == ["lamp-0", "lamp-1"]
    monkeypatch.setattr(importing, "_keep", keep)
    before = desk.secrets
    code, said = await desk.take(lamps(5))
    assert (code, said["added"], said["unchanged"], said["secrets"]) == (0, 3, 2, 3)
    assert [row[0] for row in desk.secrets] == [f"lamp-{n}" for n in range(5)]
    assert desk.secrets[:2] == before
    kept = desk.secrets
    assert (await desk.take(lamps(5)))[1]["unchanged"] == 5
    assert desk.secrets == kept
    assert sorted(path.name for path in desk.folder.iterdir()) == ["list-secrets.csv", "list.csv"]


async def test_a_cut_behind_the_secrets_does_not_write_them_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = importing._Asked.answered

    def killed(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(importing._Asked, "answered", killed)
    await desk.take(lamps(2))
    monkeypatch.setattr(importing._Asked, "answered", answered)
    kept = desk.secrets
    assert len(kept) == 2
    await desk.take(lamps(2))
    assert desk.secrets == kept


async def test_an_answer_that_is_no_longer_kept_is_told_with_what_takes_it_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = importing._keep

    def killed(*_: object, **__: object) -> int:
        raise RuntimeError

    monkeypatch.setattr(importing, "_keep", killed)
    await desk.take(lamps(2))
    monkeypatch.setattr(importing, "_keep", keep)
    await desk.city.path.pool.execute("DELETE FROM iot.answer")
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(importing, "note", lambda code, **facts: told.append({"code": code, **facts}))
    code, said = await desk.take(lamps(2))
    assert (code, said["added"], said["unchanged"]) == (0, 0, 2)
    (one,) = told
    assert (one["code"], one["rows"], one["first"]) == ("lists.answer_lost", 2, 2)
    async with desk.city.client() as client:
        await client.undo(one["operation"])
    assert (await desk.take(lamps(2)))[1]["secrets"] == 2


async def test_rows_that_went_wrong_after_they_were_checked_stop_the_import_and_are_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = importing.check

    def slow(rows: Any) -> Any:
        found = check(rows)
        asyncio.run_coroutine_threadsafe(retire(), loop).result(20)
        return found

    async def retire() -> None:
        async with desk.city.path.pool.acquire() as connection:
            await devices.remove(connection, "lamp-2", by="somebody else")

    loop = asyncio.get_running_loop()
    assert (await desk.take(lamps(3)))[0] == 0
    monkeypatch.setattr(importing, "check", slow)
    code, said = await desk.take(lamps(6))
    assert (code, wrong(said)) == (1, {(4, "key"): "registry.device_retired"})
    assert (said["added"], said["unchanged"]) == (0, 2)
