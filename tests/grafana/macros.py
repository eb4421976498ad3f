"""What Grafana does to SQL before PostgreSQL sees it, as far as our dashboards ask for it.

Read in pkg/tsdb/grafana-postgresql-datasource/macros.go: plain replacements first, then `$name(args)` by regular
expression, arguments split at commas. Anything else that looks like a macro is an error there, and here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

_CALL = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")


def quoted(values: Sequence[str]) -> str:
    """Write a multi-value variable as the front end does: quoted, quotes doubled, joined by commas."""
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def expand(sql: str, *, start: str, end: str, interval_s: int, timescaledb: bool, variables: dict[str, str]) -> str:
    """Expand variables and macros. Raises ValueError for a macro that Grafana does not know."""
    for name, value in variables.items():
        sql = sql.replace(f"${{{name}}}", value)
    sql = sql.replace("$__interval", f"{interval_s}s")

    def replaced(found: re.Match[str]) -> str:
        name, arguments = found.group(1), [each.strip() for each in found.group(2).split(",")]
        column = arguments[0]
        if name == "__timeFilter":
            return f"{column} BETWEEN '{start}' AND '{end}'"
        if name in {"__timeFrom", "__timeTo"}:
            return f"'{start if name == '__timeFrom' else end}'"
        if name in {"__unixEpochFrom", "__unixEpochTo"}:
            return str(int(datetime.fromisoformat(start if name == "__unixEpochFrom" else end).timestamp()))
        if name in {"__timeGroup", "__timeGroupAlias"}:
            seconds = int(arguments[1].strip("'").removesuffix("s"))
            bucket = f"time_bucket('{seconds:.3f}s',{column})"
            if not timescaledb:
                bucket = f"floor(extract(epoch from {column})/{seconds})*{seconds}"
            return bucket + (' AS "time"' if name.endswith("Alias") else "")
        raise ValueError(f"unknown macro {name}")

    return _CALL.sub(replaced, sql)
