"""Runs `iot demo` on a pseudo-terminal and pictures what its two onlookers see: the terminal and the page.

demo on a pty -> bytes -> Terminal -> SVG (live screen, verdict)
    '-> page -> Chromium -> PNG (desktop in English and Vietnamese, phone)
"""

from __future__ import annotations

import codecs
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, expect, sync_playwright
from rich.console import Console
from rich.text import Text

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
IOT: Final = Path(sys.executable).with_name("iot")
WIDTH, HEIGHT = 132, 40
SECONDS: Final = 32
DEADLINE_S: Final = 120.0
ZONE: Final = "Asia/Ho_Chi_Minh"
_CONTROL: Final = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|\r|\n")
_CHROMIUM: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                    "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip


@dataclass(slots=True)
class Terminal:
    """As much of a terminal as a live table needs: lines, line erasure, the cursor up. Colours stay as written."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    _fresh: bool = False

    def feed(self, written: str) -> None:
        """Take what a program wrote."""
        at = 0
        for found in _CONTROL.finditer(written):
            self._put(written[at : found.start()])
            self._obey(found)
            at = found.end()
        self._put(written[at:])

    def _put(self, written: str) -> None:
        if not written:
            return
        self.lines[self.row] = written if self._fresh else self.lines[self.row] + written
        self._fresh = False

    def _obey(self, found: re.Match[str]) -> None:
        if found[0] == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
            self._fresh = True
        elif found[0] == "\r":
            self._fresh = True  # what is written next takes the line's place
        elif found[2] == "A":
            self.row = max(0, self.row - int(found[1] or 1))
        elif found[2] == "K":
            self.lines[self.row] = ""
        elif found[2] == "m":
            self._put(found[0])

    def text(self) -> str:
        """Give what stands there, without the empty end."""
        return "\n".join(self.lines).rstrip()


class Demo:
    """The running demo: its terminal, and its state directory for the other commands."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.terminal = Terminal()
        self._process, self._fd = _started([str(IOT), "demo", "--seconds", str(SECONDS), "--state", str(state)])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                read = os.read(self._fd, 65536)
            except OSError:  # the other side is closed: the demo has ended
                return
            self.terminal.feed(decoder.decode(read))

    def wait(self, seen: str) -> None:
        """Wait until these words stand on the terminal."""
        _until(lambda: seen in self.terminal.text() or self._process.poll() is not None)
        if seen not in self.terminal.text():
            raise SystemExit(f"{seen!r} never appeared:\n{self.terminal.text()}")

    def end(self) -> None:
        """Wait until it has ended by itself, and passed."""
        if self._process.wait(timeout=DEADLINE_S):
            raise SystemExit(f"The demo failed; no picture is made of it.\n{self.terminal.text()}")
        self._reader.join(timeout=5)

    def sign_in(self) -> str:
        """Give an address of the page that signs in once."""
        said = subprocess.check_output([IOT, "--state", self.state, "--output", "json", "page"], text=True)
        return str(json.loads(said)["url"])

    def stop(self) -> None:
        """End it where it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)


def _started(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IOT_") and k != "NO_COLOR"}
    path = f"{IOT.parent}:{environment['PATH']}"  # so that the lines to try are as short as in an activated environment
    environment |= {"TERM": "xterm-256color", "IOT_LANG": "en", "TZ": ZONE, "PATH": path}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    return process, ours


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def demo() -> Iterator[Demo]:
    """Run one in a folder of its own, that goes with it."""
    with tempfile.TemporaryDirectory(prefix="iot-screenshots-", dir="/tmp") as folder:  # sockets need short paths
        Path(folder).chmod(0o755)  # root's demo has a database of another user
        running = Demo(Path(folder) / "city")
        try:
            yield running
        finally:
            running.stop()


def picture_terminal(written: str, name: str, title: str) -> None:
    """Draw a terminal as SVG, without the font that rich would fetch from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in written.splitlines():
        console.print(Text.from_ansi(line), overflow="fold", highlight=False)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    (IMAGES / name).write_text(svg, encoding="utf-8")


def picture_page(browser: Browser, demo: Demo) -> None:
    """Take the page on a wall and on a phone, while the building burns."""
    desk = browser.new_page(locale="en", timezone_id=ZONE, viewport={"width": 1280, "height": 720})
    _open(desk, demo, "Live")
    desk.screenshot(path=IMAGES / "page-en.png")
    desk.click("header .language")
    expect(desk.locator("#link")).to_contain_text("Trực tuyến")
    desk.click(".alarm.critical .where")
    expect(desk.locator("#device")).to_contain_text("Phát hiện khói")
    desk.screenshot(path=IMAGES / "page-vi.png")
    phone = browser.new_page(
        locale="vi", timezone_id=ZONE, viewport={"width": 390, "height": 844}, device_scale_factor=1.5
    )
    _open(phone, demo, "Trực tuyến")
    phone.screenshot(path=IMAGES / "page-phone.png")


def _open(page: Page, demo: Demo, live: str) -> None:
    page.goto(demo.sign_in())
    expect(page.locator("#link")).to_contain_text(live)
    expect(page.locator(".alarm.critical").first).to_be_visible()


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with demo() as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_CHROMIUM)
        running.wait("in a second terminal")
        picture_page(browser, running)
        picture_terminal(running.terminal.text(), "demo-live.svg", "iot demo")
        browser.close()
        running.end()
        ending = running.terminal.text()
    picture_terminal(ending[ending.index("The devices finish") :], "demo-verdict.svg", "iot demo, its last words")
    for image in sorted(IMAGES.iterdir()):
        print(f"{image.name:20} {image.stat().st_size / 1000:6.0f} kB")


if __name__ == "__main__":
    main()
