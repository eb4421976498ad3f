"""Compile the catalogues: `python -m iot_core.messages`; `--check` instead says what is missing, and exits 1."""

from __future__ import annotations

import ast
import io
import json
import string
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from iot_core.messages import FOLDER, LANGUAGES

ROOT = FOLDER.parent.parent
PAGE_WORDS = FOLDER.parent / "api" / "page" / "words.json"
PACKAGES = ("iot_core", "drivers", "simulators", "grafana")
ERRORS = {"ConfigError", "StartError", "RequestError", "NotFoundError", "ConflictError", "ForbiddenError",
          "DriverUnavailable", "CommandRejected", "DeviceUnreachable", "IotError"}  # fmt: skip


def compiled(po: Path) -> bytes:
    """Turn one .po file into the bytes of its .mo."""
    out = io.BytesIO()
    with po.open("rb") as file:
        catalogue = read_po(file, locale=po.parent.name)
    catalogue.creation_date = datetime(2026, 1, 1, tzinfo=UTC)  # else the minute of compiling, different in every file
    write_mo(out, catalogue)
    return out.getvalue()


def sentences(lang: str) -> dict[str, str]:
    """Read all codes of a language with their sentences."""
    found: dict[str, str] = {}
    for po in sorted((FOLDER / lang).glob("*.po")):
        with po.open("rb") as file:
            found |= {str(entry.id): str(entry.string) for entry in read_po(file) if entry.id}
    return found


def placeholders(sentence: str) -> set[str]:
    """Name the facts a sentence asks for."""
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def used_codes() -> dict[str, str]:
    """Find the codes that the source says literally: `text("...")` and the first argument of our errors."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                    continue
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                code = node.args[0].value
                if (name == "text" or name in ERRORS) and isinstance(code, str) and "." in code and " " not in code:
                    found.setdefault(code, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def problems() -> list[str]:
    """List what is wrong with the catalogues, one line each."""
    by_language = {lang: sentences(lang) for lang in LANGUAGES}
    codes = set().union(*by_language.values())
    lines = [f"{where}: {code} has no sentence" for code, where in used_codes().items() if code not in codes]
    for code in sorted(codes):
        said = {lang: table.get(code, "") for lang, table in by_language.items()}
        lines += [f"{lang}: {code} is missing" for lang, sentence in said.items() if not sentence]
        if all(said.values()) and len({frozenset(placeholders(sentence)) for sentence in said.values()}) > 1:
            lines.append(f"{code}: the languages ask for different facts")
    for po in sorted(FOLDER.glob("*/*.po")):
        mo = po.with_suffix(".mo")
        if not mo.exists() or mo.read_bytes() != compiled(po):
            lines.append(f"{po.relative_to(ROOT)}: not compiled; run python -m iot_core.messages")
    if not PAGE_WORDS.exists() or PAGE_WORDS.read_bytes() != page_words():
        lines.append(f"{PAGE_WORDS.relative_to(ROOT)}: not compiled; run python -m iot_core.messages")
    return lines


def page_words() -> bytes:
    """Give the operator's page its sentences: the domain `page` in each language, as the one JSON file it loads."""
    words = {}
    for lang in LANGUAGES:
        with (FOLDER / lang / "page.po").open("rb") as file:
            words[lang] = {str(each.id).removeprefix("page."): str(each.string) for each in read_po(file) if each.id}
    return (json.dumps(words, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def main(arguments: list[str]) -> int:
    """Compile, or check."""
    if "--check" in arguments:
        lines = problems()
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return 1 if lines else 0
    for po in sorted(FOLDER.glob("*/*.po")):
        po.with_suffix(".mo").write_bytes(compiled(po))
    PAGE_WORDS.write_bytes(page_words())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
