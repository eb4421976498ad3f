"""What the documents say is there: links lead somewhere, commands parse, every page is in the index."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from iot_core.cli.root import iot

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
TOO_LARGE = 250_000
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    for found in _LINK.finditer(prose(page)):
        link = found[1] or found[2]
        if not re.match(r"[a-z]+:", link):
            yield link


def anchors(page: Path) -> set[str]:
    """Headings as a forge makes anchors of them: lower case, punctuation gone, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line in a code block, and every `iot ...` within a sentence."""
    for page in PAGES:
        blocks = [line for _, block in _FENCED.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
        spans = re.findall(r"`(iot [^`]+)`", re.sub(r"\s+", " ", prose(page)))
        for line in [*blocks, *spans]:
            if found := re.match(r"(?:[A-Z_]+=\S+ )*iot ([a-z-].*)", line):
                yield name(page), words(found[1])


def words(line: str) -> list[str]:
    """Split it as a shell does, up to a redirection or pipe; a synopsis only up to its first bracket."""
    line = re.split(r" [>|] | \[", line.replace("...", ""))[0]
    return [word for word in shlex.split(line, comments=True) if "|" not in word]


COMMANDS = sorted({(page, tuple(line)) for page, line in commands()})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} leads to {link}"
        assert target.is_relative_to(ROOT), f"{name(page)} leads out of the repository: {link}"
        assert not anchor or anchor in anchors(target), f"{name(page)}: no heading {link}"


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda each: each if isinstance(each, str) else " ".join(each))
def test_every_command_that_a_document_shows_exists_with_its_options(page: str, line: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(iot, [*line, "--help"])
    assert ended.exit_code == 0, f"{page}: {ended.output}"


def taught(page: Path) -> set[tuple[str, ...]]:
    """Commands of a guide's code blocks with their options; what they are given (names, notes) may differ."""
    found = set()
    for _, block in _FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if not (typed := re.match(r"(?:[A-Z_]+=\S+ )*iot ([a-z-].*)", line)):
                continue
            rest = words(typed[1])
            command: click.Command = iot
            path = []
            while rest and isinstance(command, click.Group):
                below = command.get_command(click.Context(command), rest[0])
                assert below is not None, typed[0]
                command = below
                path.append(rest.pop(0))
            options = sorted({word.partition("=")[0] for word in rest if word.startswith("--")} - {"--lang"})
            found.add((" ".join(path), *options))
    return found


@pytest.mark.parametrize("page", sorted((DOCS / "vi").glob("*.md")), ids=name)
def test_both_languages_teach_the_same_commands(page: Path) -> None:
    assert taught(page) == taught(DOCS / page.name)


def hints() -> Iterator[tuple[str, str]]:
    """Every `iot ...` within a sentence for people, up to where the sentence goes on."""
    for file in sorted((ROOT / "iot_core" / "messages").glob("*/*.po")):
        for found in re.finditer(r"(?<![\w/.-])iot ([a-z][^`\"\n.,;:)\\]*)", file.read_text(encoding="utf-8")):
            yield name(file), found[1]


def test_every_command_that_a_sentence_names_exists_with_its_options() -> None:
    found = list(hints())
    assert len(found) > 200
    wrong = []
    for file, hint in found:
        first, *rest = hint.split()
        command = iot.get_command(click.Context(iot), first)
        if isinstance(command, click.Group) and rest and re.fullmatch("[a-z][a-z-]*", rest[0]):
            command = command.get_command(click.Context(command), rest[0])
        known = {option for one in command.params for option in one.opts} if command else set()
        if command is None or not set(re.findall(r"(?<= )--[a-z-]+", hint)) <= known:
            wrong.append(f"{file}: iot {hint}")
    assert wrong == []


def test_the_documents_show_commands_at_all() -> None:
    assert len(COMMANDS) > 30


def test_every_make_target_and_script_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)(?:IOT_LANG=vi )?make ([a-z-]+)", readme, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in re.findall(r"`?scripts/([a-z-]+)", readme):
        assert (ROOT / "scripts" / script).is_file(), script


def test_every_document_stands_in_the_index() -> None:
    listed = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "README.md")}
    assert [name(page) for page in PAGES if page.is_relative_to(DOCS) and page not in listed] == ["docs/README.md"]


def test_every_picture_is_shown_somewhere_and_small() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    for picture in (DOCS / "images").iterdir():
        assert picture in shown, picture
        assert picture.stat().st_size < TOO_LARGE, picture


def test_pictures_ask_no_other_host() -> None:
    for picture in (DOCS / "images").glob("*.svg"):
        asked = re.findall(r"(?:url\(\"?|href=\")(https?:[^\")]+)", picture.read_text(encoding="utf-8"))
        assert asked == [], picture


def test_no_file_keeps_the_marks_of_a_merge() -> None:
    marked = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    folders = ("iot_core", "drivers", "device_profiles", "simulators", "grafana", "tests", "docs", "scripts")
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    texts = [path for path in files if path.suffix in {".md", ".py", ".po", ".yaml", ".sql", ".toml", ".js", ".json"}]
    assert [name(path) for path in texts if marked.search(path.read_bytes())] == []
