"""The page of figures is made of what benchmarks said, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from simulators.bench.marks import judged
from simulators.bench.page import written

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
MACHINE = {"cores": 2, "cpu": "a cpu", "memory_gb": 8.0, "system": "Linux"}
INGEST = {
    "bench": "ingest", "ok": True, "machine": MACHINE, "versions": {"postgresql": "18.1"},
    "settings": {"devices": 1000, "rate": 0.0, "store": "embedded", "baseline": True, "profile": False,
                 "receipts": True},
    "messages_per_s": 21_000, "slowest_5s_per_s": 20_100, "memory_peak_mb": 101.5, "lost": 0, "duplicate": 0,
    "cpu_us_per_message": {"core": 21.1, "broker": 15.2, "database": 12.3, "publisher": 4.4}, "ratio": 130.2,
    "profile": [{"file": "iot_core/ingest/express.py", "us": 4.01, "functions": {"Express._checked": 2.66}}],
}  # fmt: skip
COAP = {
    "bench": "coap", "ok": True, "machine": MACHINE, "versions": {"aiocoap": "0.4"}, "settings": {"devices": 500},
    "con": {"messages_per_s": 4000}, "lost": 0,
}  # fmt: skip


def test_every_table_is_written_anew_and_twice_is_the_same() -> None:
    failed = {"bench": "failed", "command": "iot bench query", "exit_code": 124}
    page = written(PAGE.read_text(encoding="utf-8"), [INGEST, COAP, failed])
    assert "| ingest, embedded, 1,000 devices | messages a second | at least 20,000 | 21,000 | yes |" in page
    assert "| ingest, embedded, 1,000 devices | lost and doubled | at most 0 | 0 | yes |" in page
    assert "- `iot bench query` failed (exit code 124): no figures" in page
    assert "| --devices 1000 --rate 0.0 --store embedded --baseline | 21,000 | 20,100 | 21.1 | 15.2 |" in page
    assert "| `iot_core/ingest/express.py` | 4.01 | Express._checked 2.66 |" in page
    assert "### iot bench coap --devices 500" in page
    assert "| `con.messages_per_s` | 4000 |" in page
    assert "- 2 cores, a cpu, 8.0 GB, Linux" in page
    assert written(page, [INGEST, COAP, failed]) == page


def test_a_miss_is_named_and_the_cost_of_many_devices_compared() -> None:
    settings = INGEST["settings"]
    assert isinstance(settings, dict)
    many = INGEST | {
        "settings": settings | {"devices": 100_000, "baseline": False}, "memory_peak_mb": 400.0,
        "flat_cost": {"against_devices": 1_000, "core": 1.04, "database": 2.44, "both": 1.6},
        "cpu_us_per_message": {"core": 22.0, "broker": 15.0, "database": 30.0, "publisher": 4.0},
    }  # fmt: skip
    rows = {(run, what): (figure, held) for run, what, _, figure, held in judged([INGEST, many])}
    name = "ingest, embedded, 100,000 devices"
    assert rows[name, "the core's memory, most during the run"] == ("400.0 MB", "**no**")
    assert rows[name, "the core's CPU a message, against few devices"] == ("1.04 x", "yes")
    assert rows[name, "the database's CPU a message, against few devices"] == ("2.44 x", "**no**")


def test_what_was_waited_for_in_vain_is_a_miss_and_what_was_not_asked_has_no_row() -> None:
    storm = {"storm": {"quiet_s": None, "fire_to_receipt_ms": {"p99": 1400.0}}}
    alarms = {"bench": "alarms", "settings": {"devices": 6000}, **storm}
    rows = {what: (figure, held) for _, what, _, figure, held in judged([alarms])}
    assert rows == {
        "a storm of 5,000 until the screen is quiet": ("not in the time it was given", "**no**"),
        "a fire in it, its uplink to its receipt, p99": ("1,400.0 ms", "**no**"),
    }


def test_newest_values_are_judged_by_their_95th_percentile_too() -> None:
    query = {"bench": "query", "settings": {"devices": 10_000}, "http_ms": {"latest_of_all": {"p50": 90, "p95": 104.5}}}
    assert [(what, held) for _, what, _, _, held in judged([query])] == [
        ("newest values of 10,000 devices, over HTTP", "yes"), ("the same, p95", "**no**"),
    ]  # fmt: skip
