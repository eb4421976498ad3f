"""Writes what benchmarks said into docs/performance.md: `python -m simulators.bench.page RESULTS.jsonl PAGE.md`.

RESULTS holds the last lines of `iot bench ...`, one a line; scripts/bench makes them. Between two marks of the page,
`<!-- NAME -->` and `<!-- /NAME -->`, stands what is written anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from simulators.bench.marks import judged

__all__ = ["written"]

Result = Mapping[str, Any]
_FRAME: Final = frozenset({"bench", "ok", "settings", "machine", "versions", "profile", "targets_per_s"})
_IDLE: Final = 0.1
_PARTS: Final = ("core", "broker", "database", "publisher")


def written(page: str, results: Sequence[Result]) -> str:
    """Give the page with its tables made of results."""
    failed = [each for each in results if each["bench"] == "failed"]
    results = [each for each in results if each["bench"] != "failed"]
    ingest = [each for each in results if each["bench"] == "ingest"]
    tables = {
        "marks": _marks(results, failed),
        "machine": _machine(results),
        "ingest": _ingest(ingest),
        "profile": _profile(ingest),
        "others": "\n\n".join(_other(each) for each in results if each["bench"] != "ingest") or "Not run.",
    }
    for name, table in tables.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, table=table: f"{found[1]}{table}\n{found[2]}",  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
    return page


def _marks(results: Sequence[Result], failed: Sequence[Result]) -> str:
    table = _table(("run", "what", "mark", "measured", "held"), judged(results))
    misses = [f"- `{each['command']}` failed (exit code {each['exit_code']}): no figures" for each in failed]
    return "\n\n".join([table, "\n".join(misses)] if misses else [table])


def _machine(results: Sequence[Result]) -> str:
    machines = {each["machine"]["cpu"] + each["machine"]["system"]: each["machine"] for each in results}
    shares = [each["machine"].get("busy_before", 0.0) for each in results]
    versions: dict[str, dict[str, None]] = {}  # each said once, in the order of the runs
    for each in results:
        for name, version in each["versions"].items():
            if version not in {"", "-"}:
                versions.setdefault(name, {})[version] = None
    lines = [f"- {m['cores']} cores, {m['cpu']}, {m['memory_gb']} GB, {m['system']}" for m in machines.values()]
    if shares and max(shares) > _IDLE:
        lines.append(
            f"- **It was not idle**: {min(shares):.0%} to {max(shares):.0%} of its cores were in use before the runs:"
            " CPU figures hold, messages a second, latencies and the baseline do not"
        )
    return "\n".join([*lines, "- " + ", ".join(f"{name} {' and '.join(versions[name])}" for name in sorted(versions))])


def _ingest(results: Iterable[Result]) -> str:
    rows = []
    for each in results:
        used = each["cpu_us_per_message"]
        latency = each.get("publish_to_commit_ms", {}).get("p99", "")
        rows.append((
            _said(each["settings"]), f"{each['messages_per_s']:,}", f"{each['slowest_5s_per_s']:,}",
            *(used[part] for part in _PARTS), latency, each["memory_peak_mb"], each["lost"], each["duplicate"],
            f"{each['ratio']} x" if "ratio" in each else "",
        ))  # fmt: skip
    heads = (
        "iot bench ingest", "messages/s", "slowest 5 s", *(f"{part}, us a message" for part in _PARTS),
        "publish to commit p99, ms", "core's memory, MB", "lost", "duplicate", "baseline",
    )  # fmt: skip
    return _table(heads, rows)


def _profile(results: Iterable[Result]) -> str:
    found: list[dict[str, Any]] = next((each["profile"] for each in results if each.get("profile")), [])
    rows = [
        (f"`{row['file']}`", row["us"], ", ".join(f"{name} {us}" for name, us in list(row["functions"].items())[:3]))
        for row in found
        if row["us"] >= 0.2
    ]
    return _table(("file", "us a message", "the dearest functions"), rows)


def _other(result: Result) -> str:
    rows = [(f"`{name}`", value) for name, value in _flat(result)]
    title = f"### iot bench {result['bench']} {_said(result['settings'])}".rstrip()
    return f"{title}\n\n{_table(('figure', 'value'), rows)}"


def _flat(figures: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in figures.items():
        if before or name not in _FRAME:
            if isinstance(value, Mapping):
                yield from _flat(value, f"{before}{name}.")
            elif isinstance(value, int | float | str):
                yield f"{before}{name}", value


def _said(settings: Mapping[str, Any]) -> str:
    """Write settings as the options that gave them."""
    shown = {name: value for name, value in settings.items() if value is not None and value is not (name == "receipts")}
    return " ".join(
        f"--no-{name}" if value is False else f"--{name}" if value is True else f"--{name} {value}"
        for name, value in shown.items()
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    said, target = Path(sys.argv[1]), Path(sys.argv[2])
    found = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines() if line.strip()]
    target.write_text(written(target.read_text(encoding="utf-8"), found), encoding="utf-8")
