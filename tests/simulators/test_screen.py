"""The demo's screen fits the terminal that it is shown on."""

from __future__ import annotations

import pytest

from simulators.screen import Figures, PlainScreen, screen


@pytest.mark.parametrize(("term", "watched"), [("dumb", True), ("xterm", False)])
def test_a_terminal_that_cannot_draw_gets_lines_and_the_commands_to_try(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], term: str, watched: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    if watched:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with screen() as shown:
        shown.figures(Figures(second=5, published={"mqtt": 3, "coap": 2, "modbus": 1}))
        assert isinstance(shown, PlainScreen)
        assert shown.watched is watched
    assert "5 s: observations sent: 3 MQTT, 2 CoAP, 1 Modbus" in capsys.readouterr().out
