"""Write dashboard and provisioning as files, for a Grafana that is set up from a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from grafana.dashboard import DATA_SOURCE_UID, FOLDER_UID, UID
from grafana.query import DATA_SOURCE_TYPE


def export(folder: Path, dashboard: Mapping[str, Any], title: str) -> list[Path]:
    """Write the files below `folder` and name them. The password stays a variable that Grafana fills in itself."""
    files = {
        folder / "dashboards" / f"{UID}.json": json.dumps(dashboard, ensure_ascii=False, indent=2, sort_keys=True)
        + "\n",
        folder / "provisioning" / "dashboards" / "iot.yaml": _yaml(_provider(title)),
        folder / "provisioning" / "datasources" / "iot.yaml": _yaml(_data_source()),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(files)


def _yaml(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False)


def _provider(title: str) -> dict[str, Any]:
    options = {"path": "/var/lib/grafana/dashboards"}
    provider = {"name": "iot", "type": "file", "folder": title, "folderUid": FOLDER_UID, "allowUiUpdates": False}
    return {"apiVersion": 1, "providers": [{**provider, "updateIntervalSeconds": 30, "options": options}]}


def _data_source() -> dict[str, Any]:
    source = {
        "uid": DATA_SOURCE_UID,
        "name": "iot",
        "type": DATA_SOURCE_TYPE,
        "access": "proxy",
        "url": "$IOT_DB_HOST",
        "user": "$IOT_DB_USER",
        "jsonData": {"database": "$IOT_DB_NAME", "sslmode": "prefer", "timescaledb": False},
        "secureJsonData": {"password": "$IOT_DB_PASSWORD"},
    }
    return {"apiVersion": 1, "datasources": [source]}
