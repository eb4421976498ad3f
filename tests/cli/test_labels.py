"""QR codes say what goes into a device; a reader that is not ours reads them."""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING

import pytest
import segno

from iot_core.cli.codes import Label, content, sheet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Core


def squares(png: Path) -> list[str]:
    """Read a PNG back into rows of squares, without its margin."""
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    body, at = b"", 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += size + 12
    stride = (width + 7) // 8 + 1
    plain = zlib.decompress(body)
    rows: list[bytes] = []
    for begin in range(0, len(plain), stride):
        row = plain[begin + 1 : begin + stride]
        assert plain[begin] in {0, 2}, "none, or the difference to the row above"
        above = rows[-1] if plain[begin] == 2 else bytes(len(row))
        rows.append(bytes((one + other) % 256 for one, other in zip(row, above, strict=True)))
    bits = ["".join(f"{byte:08b}" for byte in row)[:width] for row in rows]
    return [row[4 * 8 + 4 : -4 * 8 : 8] for row in bits[4 * 8 + 4 : -4 * 8 : 8]]


def code_of(said: str) -> list[str]:
    return ["".join("0" if dark else "1" for dark in row) for row in segno.make_qr(said, error="m").matrix]


def test_a_device_is_added_with_a_code_of_what_goes_into_it(core: Core) -> None:
    png = core.folder / "sl-77.png"
    added = core("device", "add", "sl-77", "--profile", "native-streetlight", "--qr", "--png", str(png))
    assert added.code == 0, added.err
    assert png.stat().st_mode & 0o777 == 0o600
    assert "█" in added.out
    assert "▀" in added.out
    secret = re.search(r"token=(\S+)", added.out)
    assert secret is not None
    said = {
        "broker": f"127.0.0.1:{core.port + 1}", "user": "sl-77", "password": secret[1],
        "topic": "iot/v1/sl-77/telemetry", "status": "iot/v1/sl-77/status",
        "coap": f"coap://127.0.0.1:{core.port + 2}/v1/sl-77/telemetry?token={secret[1]}",
    }  # fmt: skip
    assert squares(png) == code_of(json.dumps(said, separators=(",", ":")))


def test_a_sheet_has_a_label_for_each_device_that_is_meant(core: Core) -> None:
    for key in ("sl-81", "sl-82"):
        core.add(key, "native-streetlight", "--name", "Đèn <một>", "--serial", f"S-{key}")
    core.json("device", "edit", "sl-81", "sl-82", "--add-label", "sheet")
    path = core.folder / "labels.html"
    made = core("device", "labels", str(path), "--where", "label=sheet")
    assert made.code == 0, made.err
    page = path.read_text()
    assert page.count("<section>") == page.count("<svg") == 2
    assert "Đèn &lt;một&gt;" in page
    assert "S-sl-82" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    nobody = core("device", "labels", str(path), "--where", "label=nobody")
    assert (nobody.code, "iot device list" in nobody.err) == (1, True)
    unknown = core("device", "labels", str(path), "sl-81", "sl-99")
    assert (unknown.code, "sl-99" in unknown.err) == (1, True)


def test_a_sheet_with_secrets_says_so(core: Core) -> None:
    secret = core.add("sl-91")
    secrets = core.folder / "secrets.csv"
    secrets.write_text(f"sl-91,iot:sl-91,{secret}\n")
    path = core.folder / "secret-labels.html"
    made = core("device", "labels", str(path), "sl-91", "--secrets", str(secrets))
    assert made.code == 0, made.err
    assert "delete it" in made.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text(), "only the code holds it"


@pytest.mark.parametrize("language", ["en", "vi"])
def test_labels_stand_in_the_language_that_was_asked_for(language: str) -> None:
    assert f'lang="{language}"' in sheet([Label("a", "a", ())], language)
    assert content([("cli.into_broker", "h:1")]) == '{"broker":"h:1"}'
