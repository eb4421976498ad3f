"""What is sent to Grafana's API, recorded by a stand-in server (no Grafana can be installed here)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from grafana.apply import Database, apply
from grafana.commands import grafana
from iot_core.cli.root import iot
from iot_core.errors import RequestError

DATABASE = Database.parse("postgresql://reader:s%3Acret@db.example:6432/city", timescaledb=True)


@dataclass
class Grafana:
    """Keeps folders, data sources and dashboards like the real one answers for them."""

    url: str = ""
    allowed: bool = True
    kept: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@pytest.fixture
def stand_in() -> Iterator[Grafana]:
    state = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            state.calls.append((self.command, self.path))
            state.tokens.add(self.headers.get("Authorization", ""))
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            status, answer = self.decide(body)
            said = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def decide(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            if not state.allowed:
                return 403, {"message": "no right"}
            if self.command == "GET":
                known = state.kept.get(self.path)
                return (200, known) if known else (404, {"message": "not found"})
            if self.path == "/api/dashboards/db":
                state.kept["dashboard"] = body
                return 200, {"url": "/d/iot-city/city", "status": "success"}
            key = (
                self.path
                if self.command == "PUT"
                else {
                    "/api/folders": f"/api/folders/{body.get('uid')}",
                    "/api/datasources": f"/api/datasources/uid/{body.get('uid')}",
                }[self.path]
            )
            state.kept[key] = body
            return 200, body

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_first_time_makes_and_the_second_brings_up_to_date(stand_in: Grafana) -> None:
    for _ in range(2):
        address = apply(stand_in.url, "glsa_x", {"uid": "iot-city", "title": "City"}, "IoT", DATABASE)
    assert address == f"{stand_in.url}/d/iot-city/city"
    assert [call for call in stand_in.calls if call[0] != "GET"] == [
        ("POST", "/api/folders"),
        ("POST", "/api/datasources"),
        ("POST", "/api/dashboards/db"),
        ("PUT", "/api/folders/iot"),
        ("PUT", "/api/datasources/uid/iot-store"),
        ("POST", "/api/dashboards/db"),
    ]
    source = stand_in.kept["/api/datasources/uid/iot-store"]
    assert (source["url"], source["user"], source["secureJsonData"]) == (
        "db.example:6432", "reader", {"password": "s:cret"},
    )  # fmt: skip
    assert stand_in.kept["dashboard"]["folderUid"] == "iot"
    assert stand_in.tokens == {"Bearer glsa_x"}


def test_a_refusal_says_what_right_is_missing(stand_in: Grafana) -> None:
    stand_in.allowed = False
    with pytest.raises(RequestError) as refused:
        apply(stand_in.url, "glsa_x", {"uid": "iot-city"}, "IoT", None)
    assert refused.value.code == "grafana.refused"
    assert refused.value.facts["status"] == 403


def test_nobody_there_is_one_sentence(free_port: Any) -> None:
    with pytest.raises(RequestError) as away:
        apply(f"http://127.0.0.1:{free_port()}", "glsa_x", {"uid": "iot-city"}, "IoT", None)
    assert away.value.code == "grafana.unreachable"


def test_the_exit_code_tells_a_grafana_that_says_no_from_one_that_says_nothing(
    stand_in: Grafana, free_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.allowed = False
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa_x")
    for url, code in ((stand_in.url, 1), (f"http://127.0.0.1:{free_port()}", 3)):
        with pytest.raises(SystemExit) as ended:
            iot.main(["grafana", "apply", "--url", url])
        assert ended.value.code == code, url


def test_a_bad_dsn_is_refused_without_saying_the_password() -> None:
    with pytest.raises(RequestError) as bad:
        Database.parse("mysql://user:hunter2@host/name", timescaledb=False)
    assert "hunter2" not in str(bad.value)


def test_our_own_token_is_never_sent_to_grafana(stand_in: Grafana) -> None:
    result = CliRunner().invoke(
        grafana, ["apply", "--url", stand_in.url], env={"IOT_TOKEN": "ours", "GRAFANA_TOKEN": "glsa_theirs"}
    )
    assert result.exit_code == 0, result.output
    assert stand_in.tokens == {"Bearer glsa_theirs"}


def test_exported_files_can_be_read_back(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "iot_core.cli", "grafana", "export", str(tmp_path), "--lang", "vi"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    dashboard = json.loads((tmp_path / "dashboards/iot-city.json").read_text())
    assert dashboard["title"] == "Thành phố"
    source = yaml.safe_load((tmp_path / "provisioning/datasources/iot.yaml").read_text())["datasources"][0]
    assert source["secureJsonData"]["password"] == "$IOT_DB_PASSWORD"
