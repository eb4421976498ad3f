"""`iot center`, `iot escalation`, `iot report`, `iot open-data` as people type them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Core


def test_a_center_is_added_listed_and_removed(core: Core) -> None:
    said = core("center", "add", "fire-dept", "--name", "Cảnh sát PCCC").out
    assert re.search(r"Secret +whsec_\S+\n", said)
    (row,) = core.json("center", "list")
    assert (row["key"], row["name"], row["heard_at"]) == ("fire-dept", "Cảnh sát PCCC", None)
    assert "whsec_" not in core("--output", "json", "center", "list").out
    again = core("center", "add", "fire-dept", "--name", "x")
    assert again.code != 0
    assert "fire-dept" in again.err
    assert core("center", "remove", "fire-dept").code == 0
    assert core.json("center", "list") == []
    assert core("center", "remove", "fire-dept").code != 0


def test_a_chain_is_added_listed_and_removed_and_holidays_are_kept(core: Core) -> None:
    for name in ("night-shift", "head"):
        assert core("push", "add", name, "--webhook", f"http://127.0.0.1:9/{name}").code == 0
    chain = ("escalation", "add", "fire", "--step", "2m:night-shift", "--step", "5m:head:mon-fri 07:00-17:00")
    assert core(*chain, "--repeat", "10m", "--remind", "07:00", "--min-severity", "critical").code == 0
    listed = core("escalation", "list").out
    assert "2m night-shift → 5m head (mon-fri 07:00-17:00)" in " ".join(listed.split())
    (row,) = core.json("escalation", "list")
    assert (row["repeat_s"], row["remind"], row["min_severity"]) == (600, ["07:00"], "critical")
    for wrong in ("2m", "soon:head", "2m:nobody-there"):
        refused = core("escalation", "add", "other", "--step", wrong)
        assert refused.code != 0, wrong
        assert wrong.rpartition(":")[2] in refused.err
    days = core.json("escalation", "holidays", "--add", "2027-09-02", "--name", "Quốc khánh")
    assert {"day": "2027-09-02", "name": "Quốc khánh"} in days
    assert core.json("escalation", "holidays", "--remove", "2027-09-02") == []
    assert core("escalation", "remove", "fire").code == 0
    assert core.json("escalation", "list") == []
    for name in ("night-shift", "head"):
        core("push", "remove", name)


def test_open_data_goes_into_a_file_and_what_is_wrong_is_said(core: Core, tmp_path: Path) -> None:
    done = core("open-data", "weather", "--day", "2026-01-02", str(tmp_path / "air.csv"))
    assert (done.code, done.out) == (0, ""), done
    assert (tmp_path / "air.csv").read_text().startswith("key,")
    assert '"FeatureCollection"' in core("open-data", "weather", "--day", "2026-01-02", "--format", "geojson").out
    unknown = core("open-data", "ship", "--day", "2026-01-02")
    assert unknown.code != 0
    assert "air_quality" in unknown.err  # what there is, is said
    to_come = core("open-data", "weather", "--day", "2999-01-02")
    assert (to_come.code, "2999-01-02" in to_come.err) == (1, True)
    nowhere = core("open-data", "weather", "--day", "2026-01-02", str(tmp_path / "no" / "air.csv"))
    assert "no/air.csv" in nowhere.err


def test_a_ledger_without_stations_says_how_to_begin(core: Core) -> None:
    assert "[reports.stations]" in core("report", "list").out
    assert core("report", "list", "--waiting").out == "No file waits.\n"
    unknown = core("report", "again", "nobody", "--from", "2026-09-01", "--to", "2026-09-02")
    assert unknown.code != 0
    assert "nobody" in unknown.err
    core.add("smoke-no-station", "native-fire-detector")
    none = core("report", "again", "smoke-no-station", "--from", "2026-09-01", "--to", "2026-09-02")
    assert (none.code, "[reports.stations]" in none.err) == (1, True)
    core("device", "remove", "smoke-no-station")
