"""A YAML file as plain data that still knows on which line each key stands, so that an error can say so."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import msgspec
import yaml

from iot_core.errors import ConfigError
from iot_core.profiles.expect import expectation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Document", "Mistake", "Place", "duration"]

Place = tuple[str | int, ...]
"""Where in a document: its keys and list indexes from the top."""

T = TypeVar("T")

_LARGEST: Final = 250_000
"""Characters in a file: twenty times the longest shipped one, and a second's reading."""
_MOST_NODES: Final = 100_000
_MAX_DEPTH: Final = 24
_LONGEST_NUMBER: Final = 40
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TAG: Final = "tag:yaml.org,2002:"


class Mistake(ConfigError):
    """A ConfigError that knows its place in the document, so that a check can look for further ones."""

    def __init__(self, place: Place, *, unknown_key: bool, **facts: object) -> None:
        super().__init__("profile.invalid", **facts)
        self.place = place
        self.unknown_key = unknown_key


class Document:
    """One file: its data, and the line of every key. `error` makes the ConfigError that names them."""

    def __init__(self, file: Path | str, text: str) -> None:
        self.file = str(file)
        self._lines: dict[Place, int] = {}
        self._foreign: dict[Place, tuple[str, int]] = {}
        if len(text) > _LARGEST:
            self._fail(1, "", f"at most {_LARGEST} characters in a file")
        try:
            node = yaml.compose(text, Loader=_loader())
        except (yaml.YAMLError, RecursionError) as exc:
            mark = getattr(exc, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            if opened := _open_quote(text, line):
                self._fail(opened, "", "the quote that is opened here to be closed, on the same line if it can be")
            said = text.splitlines()[line - 1 : line] or [""]
            tab = "\t" in said[0][: len(said[0]) - len(said[0].lstrip())]
            why = "spaces before the key, not a tab" if tab else _why(str(getattr(exc, "problem", None) or exc))
            self._fail(line, "", why)
        self.data: Any = None if node is None else self._build(node, ())

    def line(self, place: Place) -> int:
        """Give the line of a place, or of the nearest thing around it that the file has."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def inherited(self, place: Place) -> bool:
        """Say whether a place stands in the file that this one extends."""
        return place in self._foreign

    def error(self, place: Place, expected: str, *, unknown_key: bool = False) -> Mistake:
        """Make the error for a place."""
        whole, shown = place, _dotted(place)
        while place and place not in self._foreign and place not in self._lines:
            place = place[:-1]
        file, line = self._foreign.get(place) or (self.file, self.line(place))
        return Mistake(whole, unknown_key=unknown_key, file=file, line=line, key=shown or "-", expected=expected)

    def put(self, place: Place, value: object) -> None:
        """Put something in place of what stands there; nothing (`None`) takes the key of a table away."""
        *above, last = place
        around = self.at(tuple(above))
        if value is None:
            del around[last]
        else:
            around[last] = value

    def extend(self, base: Document) -> None:
        """Take over everything of `base` that this document does not say itself; what it says is null is left out."""
        self.data = self._merged(base, base.data, self.data, ())

    def _merged(self, base: Document, theirs: Any, mine: Any, place: Place) -> Any:
        if not isinstance(theirs, dict) or not isinstance(mine, dict):
            return mine
        merged: dict[Any, Any] = {}
        for key, value in theirs.items():
            where = (*place, key)
            if key not in mine:
                merged[key] = value
                self._adopt(base, value, where)
            elif mine[key] is not None or value is None:
                merged[key] = self._merged(base, value, mine[key], where)
        merged.update((key, value) for key, value in mine.items() if key not in theirs)
        return merged

    def _adopt(self, base: Document, value: Any, place: Place) -> None:
        self._foreign[place] = base._foreign.get(place) or (base.file, base.line(place))
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            self._adopt(base, child, (*place, key))

    def read(self, place: Place, kind: type[T]) -> T:
        """Convert what stands at a place to a typed struct. Raises ConfigError with the exact key."""
        value: Any = self.data
        for step in place:
            value = value[step]
        return self.convert(place, value, kind)

    def convert(self, place: Place, value: Any, kind: type[T]) -> T:
        """Convert a value that is meant for a place. Raises ConfigError with the exact key."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            inner, expected = expectation(str(exc), kind, value)
            unknown_key = "unknown field" in str(exc)
            raise self.error(place + inner, expected, unknown_key=unknown_key) from exc

    def at(self, place: Place) -> Any:
        """Give what stands at a place, None when nothing does."""
        value: Any = self.data
        for step in place:
            value = (
                value.get(step) if isinstance(value, dict) else value[int(step)] if isinstance(value, list) else None
            )
        return value

    def table(self, place: Place) -> Mapping[str, Any]:
        """Give the mapping at a place, which must be there, have text keys and not be empty."""
        value = self.at(place)
        if not isinstance(value, dict) or not value:
            raise self.error(place, "a table with at least one entry")
        for key in value:
            if not isinstance(key, str):
                raise self.error((*place, key), "a key that is text")
        return value

    def _build(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if len(self._lines) > _MOST_NODES:  # aliases of aliases: a page of YAML can stand for more than memory holds
            self._fail(node.start_mark.line + 1, _dotted(place), f"at most {_MOST_NODES} entries in a file")
        if len(place) > _MAX_DEPTH:
            self._fail(node.start_mark.line + 1, _dotted(place), f"at most {_MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*place, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, place)

    def _build_mapping(self, node: yaml.MappingNode, place: Place) -> dict[Any, Any]:
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail(line, _dotted(place), "a key that is text, a number or a truth value")
            key = self._scalar(key_node, place)
            if key in built:
                self._fail(line, _dotted((*place, key)), "each key once")
            self._lines[*place, key] = line
            built[key] = self._build(value_node, (*place, key))
        return built

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        text = str(node.value)
        try:
            if node.tag == f"{_TAG}null":
                return None
            if node.tag == f"{_TAG}bool":
                return text.lower() == "true"
            if node.tag == f"{_TAG}int" and len(text) <= _LONGEST_NUMBER:
                return int(text, 0)
            if node.tag in {f"{_TAG}int", f"{_TAG}float"}:
                number = float(text)
                if node.tag == f"{_TAG}float" and math.isfinite(number):
                    return number
                raise ValueError(text)  # noqa: TRY301 - the same answer as for what is no number at all
        except ValueError:
            self._fail(
                node.start_mark.line + 1, _dotted(place), f"a finite number of at most {_LONGEST_NUMBER} characters"
            )
        if node.tag != f"{_TAG}str":
            self._fail(node.start_mark.line + 1, _dotted(place), f"plain data, not the tag {node.tag}")
        return text

    def _fail(self, line: int, key: str, expected: str) -> NoReturn:
        raise ConfigError("profile.invalid", file=self.file, line=line, key=key or "-", expected=expected) from None


_WHY: Final = {
    "mapping values are not allowed": "quotes around a text with a colon and a space in it",
    "cannot start any token": "quotes around a text that begins with % or @, or with the backtick",
    "undefined alias": "an anchor &name above the *name that stands for it",
    "alphabetic or numeric character": "quotes around a text that begins with * or &",
    "expected ',' or '}'": "a closing }, and quotes around a text with { or } in it",
    "expected ',' or ']'": "a closing ], and quotes around a text with [ or ] in it",
    "expected node content": "something behind the colon, and quotes around a text with # or , in it",
    "expected key": "the keys of one table below one another, each behind as many spaces",
    "found another document": "one document: nothing behind ---",
    "unexpected end of stream": "the quote that closes a text",
    "unacceptable character": "text without control characters",
}
"""What the parser of YAML says, and what a person has to do about it."""


def _why(problem: str) -> str:
    return next((said for part, said in _WHY.items() if part in problem), f"YAML ({problem})")


def _open_quote(text: str, line: int) -> int:
    """Find the line of a quote that was meant to be closed before this one, where PyYAML gives up; 0 when none was."""
    opened = 0
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if token.start_mark.line >= line:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in {'"', "'"}:
                first, last = token.start_mark.line + 1, token.end_mark.line + 1
                opened = first if first < last == line else opened
    except yaml.MarkedYAMLError as exc:
        if exc.context == "while scanning a quoted scalar" and exc.context_mark is not None:
            return exc.context_mark.line + 1
    return opened


def duration(text: str) -> timedelta | None:
    """Read `60s`, `15m`, `24h`, `1d`; None when it is not one."""
    match = _DURATION.fullmatch(text)
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]]) if match else None
    except OverflowError:
        return None


@cache
def _loader() -> Any:
    """YAML 1.2's core scalars only: in YAML 1.1 the metric key `on` would be a truth value, and 12:30 a number."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML reads it from the class

    def resolve(kind: str, pattern: str, first: Iterable[str]) -> None:
        Loader.add_implicit_resolver(_TAG + kind, re.compile(rf"(?:{pattern})\Z"), list(first))

    resolve("null", r"null|~|", ["n", "~", ""])
    resolve("bool", r"true|false", ["t", "f"])
    resolve("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789")
    resolve("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
    return Loader


def _dotted(place: Place) -> str:
    return ".".join(str(step) for step in place)
