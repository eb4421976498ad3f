"""Files after Circular 10/2021: what stands in them, and that each station and period has one, whatever breaks."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncssh
import msgspec
import pytest

from iot_core.errors import ConfigError
from iot_core.model import Quality
from iot_core.push.report import Sample, make
from iot_core.push.reporting import _hand_over_waiting, again, forget, ledger, write_files
from iot_core.settings import Reports, load
from tests.api.city import City, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HANOI = "Asia/Ho_Chi_Minh"
NINE = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


@pytest.fixture
async def city(migrated_dsn: str, free_port: Callable[[], int]) -> AsyncIterator[City]:
    async with served(migrated_dsn, free_port()) as made:
        yield made


def sample(metric: str, value: float, *, usable: bool = True, calibrating: bool = False) -> Sample:
    return Sample(metric, value, usable, calibrating)


def test_a_line_a_parameter_averaged_with_its_status() -> None:
    samples = [
        sample("pm25", 37), sample("pm25", 38), sample("pm25", 900, usable=False),
        sample("co", 812.5, usable=False, calibrating=True), sample("o3", 5, usable=False), sample("battery", 80),
    ]  # fmt: skip
    file = make("QN_ABCD_KHIXQ1", NINE + timedelta(minutes=5), samples, name="{day}/{station}_{time}.txt", zone=HANOI)
    assert file is not None
    assert file.name == "20261120/QN_ABCD_KHIXQ1_20261120090500.txt"
    assert file.body == (
        "PM2,5\t37.5\tug/m3\t20261120090500\t00\r\nO3\t5\tug/m3\t20261120090500\t02\r\n"
        "CO\t812.5\tug/m3\t20261120090500\t01\r\n"
    )
    assert file.digest == hashlib.sha256(file.body.encode()).hexdigest()
    assert make("S", NINE, [], name="{time}", zone=HANOI) is None


@pytest.mark.parametrize("name", ["{station}.txt", "/etc/{time}", "../{time}", "{time}/{nobody}", "{time"])
def test_a_name_that_leaves_its_folder_or_repeats_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "iot.toml"
    path.write_text(f'[reports]\nname = "{name}"\n')
    with pytest.raises(ConfigError):
        load(path, {})


async def say(city: City, at: datetime, pm25: float, quality: Quality = Quality.GOOD) -> None:
    body = {"time": at.isoformat(), "pm25": pm25, "quality": quality.name.lower()}
    await city.path.say("aq-1", msgspec.json.encode(body).decode())


async def written(city: City, reports: Reports, now: datetime, most: int = 1_000) -> int:
    async with city.path.pool.acquire() as connection:
        return await write_files(connection, reports, HANOI, now, most)


async def test_every_period_gets_its_file_also_late_and_after_an_outage(city: City, tmp_path: Path) -> None:
    await city.add("aq-1", "air_quality")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    reports = Reports(folder=str(blocked), stations={"aq-1": "QN_ABCD_KHIXQ1", "nobody": "X"})
    for minutes in (1, 5, 6, 21):
        await say(city, NINE + timedelta(minutes=minutes), minutes)
    assert await written(city, reports, NINE + timedelta(minutes=5, seconds=31)) == 1
    assert await written(city, reports, NINE + timedelta(minutes=25, seconds=31)) == 2
    await _hand_over_waiting(city.path.pool, reports)
    async with city.path.pool.acquire() as connection:
        assert {row["sent_at"] for row in await ledger(connection, waiting=True)} == {None}
    await say(city, NINE + timedelta(minutes=13), 99)  # came late: its period had no file
    assert await written(city, reports, NINE + timedelta(minutes=26)) == 1
    assert await written(city, reports, NINE + timedelta(minutes=26)) == 0
    folder = tmp_path / "drop"
    open_again = Reports(folder=str(folder), stations=reports.stations)
    await _hand_over_waiting(city.path.pool, open_again)
    assert not folder.exists(), "the late one does not overtake those that were tried before"
    await city.path.pool.execute("UPDATE iot.report_file SET next_at = now()")
    await _hand_over_waiting(city.path.pool, open_again)
    names = sorted(path.name for path in folder.rglob("*.txt"))
    assert [name[-10:-4] for name in names] == ["090500", "091000", "091500", "092500"]
    assert list(folder.rglob(".*")) == []
    assert "PM2,5\t3\t" in (folder / "20261120" / names[0]).read_text()
    async with city.path.pool.acquire() as connection:
        assert await ledger(connection, waiting=True) == []
        rows = await ledger(connection, "aq-1")
        assert rows[0]["attempts"] >= 1
        first = NINE + timedelta(minutes=5)
        assert await again(connection, "aq-1", first, NINE + timedelta(minutes=10)) == (1, first)
        assert await again(connection, "aq-1", NINE - timedelta(minutes=10), NINE) == (0, first)
    assert await written(city, reports, NINE + timedelta(minutes=26)) == 1
    await city.path.pool.execute(
        "UPDATE iot.report_file SET period = period - interval '400 d' WHERE name LIKE $1", "%090500%"
    )
    async with city.path.pool.acquire() as connection:
        await forget(connection, timedelta(days=400))
        assert {row["name"][-10:] for row in await ledger(connection)} == {"091000.txt", "091500.txt", "092500.txt"}


async def test_a_large_number_keeps_its_digits(city: City) -> None:
    await city.add("aq-1", "air_quality")
    await city.path.say("aq-1", f'{{"time": "{NINE + timedelta(minutes=1):%FT%TZ}", "pm25": 7.1, "co": 8000.3}}')
    assert await written(city, Reports(stations={"aq-1": "S1"}), NINE + timedelta(minutes=6)) == 1
    body = await city.path.pool.fetchval("SELECT body FROM iot.report_file")
    assert [line.split("\t")[1] for line in body.splitlines()] == ["7.1", "8000.3"]


async def test_a_period_of_which_not_all_is_read_at_once_waits_for_its_turn(city: City) -> None:
    await city.add("aq-1", "air_quality")
    reports = Reports(folder="/nowhere", stations={"aq-1": "S1"})
    await say(city, NINE + timedelta(minutes=1), 1)
    assert await written(city, reports, NINE + timedelta(minutes=6)) == 1
    for minutes in range(6, 14):
        await say(city, NINE + timedelta(minutes=minutes), minutes)
    assert await written(city, reports, NINE + timedelta(minutes=16), most=6) == 1
    assert await written(city, reports, NINE + timedelta(minutes=16), most=6) == 1
    bodies = await city.path.pool.fetch("SELECT body FROM iot.report_file ORDER BY period")
    assert [row["body"].split("\t")[1] for row in bodies] == ["1", "8", "12"]


async def test_file_that_is_asked_for_anew_is_made_of_what_is_stored_now_the_first_one_too(
    city: City, tmp_path: Path
) -> None:
    await city.add("aq-1", "air_quality")
    async with city.path.pool.acquire() as connection:
        assert await again(connection, "aq-1", NINE, NINE + timedelta(hours=1)) == (0, None)
    reports = Reports(folder=str(tmp_path), stations={"aq-1": "S1"})
    await say(city, NINE + timedelta(minutes=1), 1)
    assert await written(city, reports, NINE + timedelta(minutes=6)) == 1
    await _hand_over_waiting(city.path.pool, reports)
    await say(city, NINE + timedelta(minutes=2), 3)  # came after its period's file
    await say(city, NINE + timedelta(minutes=6), 5)
    assert await written(city, reports, NINE + timedelta(minutes=11)) == 1
    await _hand_over_waiting(city.path.pool, reports)
    first, second = sorted(tmp_path.rglob("*.txt"))
    assert first.read_text().startswith("PM2,5\t1\t")
    async with city.path.pool.acquire() as connection:
        assert (await again(connection, "aq-1", NINE, NINE + timedelta(minutes=10)))[0] == 2
    await city.path.pool.execute("UPDATE telemetry.air_quality SET pm25 = NULL WHERE pm25 = 5")  # nothing left to tell
    assert await written(city, reports, NINE + timedelta(minutes=12)) == 1
    assert await written(city, reports, NINE + timedelta(minutes=12)) == 0
    await _hand_over_waiting(city.path.pool, reports)
    assert [path.read_text().split("\t")[1] for path in (first, second)] == ["2", "5"]
    async with city.path.pool.acquire() as connection:
        assert await ledger(connection, waiting=True) == []


async def test_files_arrive_by_sftp_only_at_the_server_that_is_known(
    city: City, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("qn", "hunter2")

    def root(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(tmp_path).encode())

    key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    port = free_port()
    server = await asyncssh.listen("127.0.0.1", port, server_factory=Server, server_host_keys=[key], sftp_factory=root)
    try:
        await city.add("aq-1", "air_quality")
        await say(city, NINE + timedelta(minutes=1), 7)
        known = Reports(
            sftp=f"sftp://qn@127.0.0.1:{port}/in", password="hunter2", stations={"aq-1": "S1"},
            host_key=key.export_public_key().decode().strip(),
        )  # fmt: skip
        await written(city, known, NINE + timedelta(minutes=6))
        wrong = msgspec.structs.replace(known, host_key=other.export_public_key().decode().strip())
        await _hand_over_waiting(city.path.pool, wrong)
        assert list(tmp_path.rglob("*.txt")) == []
        await city.path.pool.execute("UPDATE iot.report_file SET next_at = now()")
        await _hand_over_waiting(city.path.pool, known)
    finally:
        server.close()
        await server.wait_closed()
    (path,) = tmp_path.rglob("*.txt")
    assert (path.name, path.parent.parent.name) == ("S1_20261120090500.txt", "in")
    assert path.read_bytes() == b"PM2,5\t7\tug/m3\t20261120090500\t00\r\n"
