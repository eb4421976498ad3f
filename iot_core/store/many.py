"""Many rows in one statement: `unnest` takes columns, and rows are what we have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["columns_of", "turned"]


def columns_of(types: Iterable[str]) -> str:
    """Write the parameters of an `unnest`: `text`, `bigint` -> `$1::text[], $2::bigint[]`."""
    return ", ".join(f"${number}::{name}[]" for number, name in enumerate(types, 1))


def turned(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Turn rows into columns. Of no rows there are no columns: ask before."""
    return list(zip(*rows, strict=True))
