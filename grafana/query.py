"""A PostgreSQL query as the Foundation SDK wants one; the SDK knows none of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

DATA_SOURCE_TYPE = "grafana-postgresql-datasource"


@dataclass(frozen=True)
class PostgresQuery(Builder[Dataquery], Dataquery):
    """`series` wants a column `time`, sorted, and names series by a column `metric`; else the result is a table."""

    sql: str
    data_source: str
    ref: str = "A"
    series: bool = False

    def build(self) -> Self:
        """Give itself: it is both the query and its builder."""
        return self

    def to_json(self) -> dict[str, object]:
        """Write the query as the PostgreSQL data source stores it."""
        return {
            "refId": self.ref,
            "datasource": {"type": DATA_SOURCE_TYPE, "uid": self.data_source},
            "editorMode": "code",
            "format": "time_series" if self.series else "table",
            "rawQuery": True,
            "rawSql": self.sql,
        }


def data_source_ref(uid: str) -> DataSourceRef:
    """Point a panel at the data source."""
    return DataSourceRef(type_val=DATA_SOURCE_TYPE, uid=uid)
