"""Send folder, data source and dashboard to a Grafana; each is made or brought up to date, twice changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaTimeoutError, TokenAuth

from grafana.dashboard import DATA_SOURCE_UID, FOLDER_UID
from grafana.query import DATA_SOURCE_TYPE
from iot_core.errors import RequestError

_NOT_FOUND = 404
_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Database:
    """How Grafana itself reaches the database; best a role that may only read."""

    host: str
    name: str
    user: str
    password: str
    timescaledb: bool
    sslmode: str = "prefer"

    @classmethod
    def parse(cls, dsn: str, *, timescaledb: bool) -> Database:
        """Read `postgresql://USER:PASSWORD@HOST:PORT/NAME`. Raises RequestError; its words never hold the password."""
        parts = urlsplit(dsn)
        if not parts.scheme.startswith("postgres") or not parts.hostname or not parts.path.strip("/"):
            raise RequestError("grafana.bad_dsn")
        return cls(
            host=f"{parts.hostname}:{parts.port or 5432}",
            name=parts.path.strip("/"),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            timescaledb=timescaledb,
        )

    def data_source(self, uid: str = DATA_SOURCE_UID) -> dict[str, Any]:
        """Write the data source as Grafana's API wants it."""
        return {
            "uid": uid,
            "name": "iot",
            "type": DATA_SOURCE_TYPE,
            "access": "proxy",
            "url": self.host,
            "user": self.user,
            "jsonData": {
                "database": self.name,
                "sslmode": self.sslmode,
                "timescaledb": self.timescaledb,
                "postgresVersion": 1500,
            },
            "secureJsonData": {"password": self.password},
        }


def apply(url: str, token: str, dashboard: Mapping[str, Any], folder: str, database: Database | None) -> str:
    """Apply everything and give the dashboard's address. Raises RequestError with Grafana's own words."""
    try:
        api = GrafanaApi.from_url(url=url, credential=TokenAuth(token), timeout=_TIMEOUT_S)
        _put_folder(api, folder)
        if database is not None:
            _put_data_source(api, database)
        answer = api.dashboard.update_dashboard(
            {"dashboard": {**dashboard, "id": None}, "folderUid": FOLDER_UID, "overwrite": True, "message": "iot"}
        )
    except (GrafanaTimeoutError, OSError) as exc:
        raise RequestError("grafana.unreachable", url=url) from exc
    except GrafanaException as exc:
        raise RequestError("grafana.refused", status=exc.status_code, detail=exc.message) from exc
    return f"{url.rstrip('/')}{answer.get('url', '')}"


def _put_folder(api: GrafanaApi, title: str) -> None:
    try:
        api.folder.get_folder(FOLDER_UID)
    except GrafanaClientError as exc:
        if exc.status_code != _NOT_FOUND:
            raise
        api.folder.create_folder(title, uid=FOLDER_UID)
    else:
        api.folder.update_folder(FOLDER_UID, title=title, overwrite=True)


def _put_data_source(api: GrafanaApi, database: Database) -> None:
    try:
        api.datasource.get_datasource_by_uid(DATA_SOURCE_UID)
    except GrafanaClientError as exc:
        if exc.status_code != _NOT_FOUND:
            raise
        api.datasource.create_datasource(database.data_source())
    else:
        api.datasource.update_datasource_by_uid(DATA_SOURCE_UID, database.data_source())
