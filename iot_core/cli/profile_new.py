"""`iot profile new`: asks what a technician knows of a model, and writes a profile whose examples hold."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import CLASS
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.errors import ConfigError, RequestError
from iot_core.messages import text, title

if TYPE_CHECKING:
    from iot_core.model import Decoded, DeviceClass
    from iot_core.profiles import Profile, Profiles
    from iot_core.profiles.draft import Draft, Entry

__all__ = ["new"]

BINARY = frozenset({"lorawan", "records", "bytes"})
TOPICS = frozenset({"json", "text", "cbor"})


@click.command(
    "new",
    cls=Command,
    help=text("profile.help_new"),
    examples=[
        "iot profile new",
        "iot profile new --class water_meter --vendor Acme --model acme-w1 --source 'Manual p. 3' \\",
        "    --speaks modbus --value volume=input:0:uint32:0.001 --value flow=input:2:int16:0.01",
        "iot profile new --class air_quality --vendor Acme --model acme-aq --source 'Manual p. 9' \\",
        "    --speaks json --topic '{address}' --sample '{\"pm25\": 12.5}'",
    ],
)
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("profile.opt_class"))
@option("--vendor", metavar="NAME", help=text("profile.opt_vendor"))
@option("--model", metavar="KEY", help=text("profile.opt_model"))
@option("--title", "en", metavar="TEXT", help=text("profile.opt_title"))
@option("--title-vi", "vi", metavar="TEXT", help=text("profile.opt_title_vi"))
@option("--source", metavar="TEXT", help=text("profile.opt_source"))
@option("--interval", metavar="TIME", help=text("profile.opt_interval"))
@option("--speaks", "way", metavar="HOW", help=text("profile.opt_speaks"))
@option("--topic", metavar="TOPIC", help=text("profile.opt_topic"))
@option("--fport", "port", type=click.IntRange(1, 255), metavar="N", help=text("profile.opt_fport"))
@option("--value", "values", multiple=True, metavar="METRIC=WHERE", help=text("profile.opt_value"))
@option("--sample", metavar="TEXT|HEX|@FILE", help=text("profile.opt_sample"))
@option("--folder", type=click.Path(path_type=Path), metavar="DIR", help=text("cli.opt_folder"))
@option("--force", is_flag=True, help=text("profile.opt_force"))
def new(
    *,
    class_key: str | None,
    vendor: str | None,
    model: str | None,
    en: str | None,
    vi: str | None,
    source: str | None,
    interval: str | None,
    way: str | None,
    topic: str | None,
    port: int | None,
    values: tuple[str, ...],
    sample: str | None,
    folder: Path | None,
    force: bool,
) -> None:
    from iot_core.cli.profile import own_folder, profiles_of
    from iot_core.profiles.draft import WAYS, Draft

    where = folder or own_folder() or Path("profiles")
    known = profiles_of(where if where.is_dir() else None)
    ask = _Asker()
    key = ask.one_of("class", class_key, list(known.classes))
    device_class = known.classes[key]
    brand = ask.text("vendor", vendor)
    name = ask.key("model", model, brand)
    english = ask.text("title", en, f"{brand} {name}")
    draft = Draft(
        model=name,
        vendor=brand,
        en=english,
        vi=ask.text("title_vi", vi, english),
        source=ask.text("source", source),
        interval=ask.text("interval", interval, "60s"),
        way=ask.one_of("speaks", way, list(WAYS)),
        entries=(),
        port=port,
    )
    if draft.way in TOPICS:
        draft = replace(draft, topic=ask.topic(topic, draft.model))
    said = _sample(ask.optional("sample", sample), draft.way)
    draft = replace(draft, entries=_entries(ask, draft, device_class, values, said))
    draft = _divided(replace(draft, length=_length(draft, said)), said)
    path = _write(known, draft, key, where, said, force=force)
    show_one({"file": str(path), "model": draft.model, "class": key}, lambda: _print(path, draft))


class _Asker:
    """Asks on a terminal; elsewhere every answer must be an option."""

    def __init__(self) -> None:
        self.asks = sys.stdin.isatty()

    def text(self, what: str, given: str | None, default: str | None = None) -> str:
        """Ask for a text."""
        if given:
            return given
        if not self.asks:
            if default is None:
                raise click.UsageError(text("profile.new_needs", option=f"--{what.replace('_', '-')}"))
            return default
        answer: str = click.prompt(text(f"profile.ask_{what}"), default=default)
        return answer.strip()

    def optional(self, what: str, given: str | None) -> str:
        """Ask for what may be missing."""
        if given is not None or not self.asks:
            return given or ""
        answer: str = click.prompt(text(f"profile.ask_{what}"), default="", show_default=False)
        return answer.strip()

    def one_of(self, what: str, given: str | None, known: list[str]) -> str:
        """Ask for one of a list."""
        from iot_core.profiles.near import like

        while True:
            said = given or (self._listed(what, known) if self.asks else "")
            if said in known:
                return said
            if said.isdecimal() and 1 <= int(said) <= len(known):
                return known[int(said) - 1]
            problem = text("profile.new_one_of", what=f"--{what}", known=", ".join(known)) + like(said, known).replace(
                "did you mean", text("profile.meant")
            )
            if given is not None or not self.asks:
                raise click.UsageError(problem)
            click.echo(problem)

    def key(self, what: str, given: str | None, vendor: str) -> str:
        """Ask for a model's key."""
        from iot_core.model import is_key

        while True:
            said = self.text(what, given)
            if is_key(said):
                return said
            brand, name = (re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") for each in (vendor, said))
            near = name if name.startswith(brand) else f"{brand}-{name}".strip("-")
            problem = text("profile.new_key", key=said, like=near or "acme-1")
            if given is not None or not self.asks:
                raise click.UsageError(problem)
            click.echo(problem)

    def topic(self, given: str | None, model: str) -> str:
        """Ask for the topic, with {address} in it."""
        while True:
            said = self.text("topic", given, f"{model}/{{address}}")
            if said.split("/").count("{address}") == 1:
                return said
            problem = text("profile.new_topic", topic=said)
            if given is not None or not self.asks:
                raise click.UsageError(problem)
            click.echo(problem)

    @staticmethod
    def _listed(what: str, known: list[str]) -> str:
        for number, name in enumerate(known, 1):
            click.echo(f"  {number:>2} {name}")
        answer: str = click.prompt(text(f"profile.ask_{what}"))
        return answer.strip()


def _sample(given: str, way: str) -> bytes:
    """Read the sample message: bytes of hexadecimal digits, a file, or text."""
    from iot_core.cli.wire import payload_of

    return payload_of(given, binary=way in BINARY or way == "cbor") if given else b""


def _entries(ask: _Asker, draft: Draft, device_class: DeviceClass, values: tuple[str, ...], said: bytes) -> list[Entry]:
    """Find out where the metrics stand: from options, from the sample message, or by asking."""
    if values:
        return [_entry(draft.way, device_class, each) for each in values]
    if draft.way == "json" and said:
        return _from_json(ask, device_class, said)
    if not ask.asks:
        raise click.UsageError(text("profile.new_needs", option="--value"))
    entries: list[Entry] = []
    click.echo(text("profile.ask_values", example=text(f"profile.where_{_form(draft.way)}")))
    for metric in device_class.metrics:
        while True:
            answer: str = click.prompt(f"  {metric.key} ({title(metric.title)})", default="", show_default=False)
            if not answer.strip():
                break
            try:
                entries.append(_entry(draft.way, device_class, f"{metric.key}={answer.strip()}"))
                break
            except click.UsageError as exc:
                click.echo(exc.message)
    return entries


def _divided(draft: Draft, said: bytes) -> Draft:
    """Say what a message is divided by, ends with, or where it says its time: as its sample has it."""
    import msgspec

    from iot_core.profiles.draft import checksum_of, columns_of, moment_of
    from iot_core.profiles.typed import splitting

    if draft.way in BINARY | {"text"}:
        draft = replace(draft, checksum=checksum_of(draft.way, said))
    if draft.way == "text":
        fields = [each.keys["field"] for each in draft.entries]
        named = any(isinstance(each, str) for each in fields)
        if not named and fields == [0] and not said:
            return draft
        between, pairs = splitting(said.decode("utf-8", "replace"), named=named)
        return replace(draft, split=between or ("," if any(fields) else ""), pairs=pairs)
    if draft.way == "json" and said:
        try:
            table, row = columns_of(msgspec.json.decode(said))
            return replace(draft, columns=table, time=moment_of(row))
        except msgspec.MsgspecError:
            return draft
    return draft


def _from_json(ask: _Asker, device_class: DeviceClass, said: bytes) -> list[Entry]:
    """Propose the metric of each value of a message by its name."""
    import msgspec

    from iot_core.profiles.draft import Entry, columns_of, guessed

    try:
        _, data = columns_of(msgspec.json.decode(said))
    except msgspec.MsgspecError as exc:
        raise click.UsageError(text("profile.new_not_json", detail=str(exc))) from exc
    entries: list[Entry] = []
    known = [metric.key for metric in device_class.metrics]
    for path, value, metric in guessed(data, device_class):
        chosen = metric
        if ask.asks:
            answer: str = click.prompt(f"  {path} = {value!r:.40}", default=metric or "-")
            chosen = answer.strip() if answer.strip() in known else ""
        if chosen:
            entries.append(Entry(chosen, _json_keys(device_class, chosen, path, value)))
    if not entries:
        raise click.UsageError(text("profile.new_none_found", metrics=", ".join(known)))
    return entries


def _json_keys(device_class: DeviceClass, metric: str, path: str, value: object) -> dict[str, object]:
    found = device_class.metric(metric)
    if found is not None and found.type.value == "bool" and isinstance(value, str):
        return {"path": path, "map": {"ON": True, "OFF": False}}
    return {"path": path}


def _entry(way: str, device_class: DeviceClass, given: str) -> Entry:
    """Read `METRIC=WHERE`."""
    from iot_core.profiles.draft import Entry
    from iot_core.profiles.near import like
    from iot_core.profiles.typed import where_of

    metric, found, where = given.partition("=")
    keys = [each.key for each in device_class.metrics]
    if metric not in keys:
        hint = like(metric, keys).replace("did you mean", text("profile.meant"))
        raise click.UsageError(text("profile.new_metric", metric=metric, known=", ".join(keys)) + hint)
    read = where_of(way, where.strip()) if found else None
    if read is None:
        raise click.UsageError(text("profile.new_where", value=given, example=text(f"profile.where_{_form(way)}")))
    return Entry(metric, read)


def _form(way: str) -> str:
    return "path" if way in {"json", "cbor"} else "place" if way in {"lorawan", "bytes"} else way


def _length(draft: Draft, said: bytes) -> int:
    """Say how long a fixed frame is: as its sample, or as far as its values reach."""
    if draft.way not in {"lorawan", "bytes"}:
        return 0
    ends = [
        int(str(each.keys["at"])) + int("".join(filter(str.isdigit, str(each.keys["type"]))) or 8) // 8
        for each in draft.entries
    ]
    return len(said) or max(ends, default=1)


def _write(known: Profiles, draft: Draft, class_key: str, folder: Path, said: bytes, *, force: bool) -> Path:
    """Write the file, with examples made from the sample, or from what the model would say; it must load."""
    from iot_core.profiles import load_file
    from iot_core.profiles.draft import examples_of, file_name, rendered
    from iot_core.profiles.reference import profile_schema_text

    path = folder / class_key / file_name(draft.vendor, draft.model)
    if path.exists() and not force:
        raise RequestError("profile.exists", file=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    try:
        first: list[dict[str, object]] = [{"payload": "", "held": "empty"}, {"payload": "1", "online": True}]
        path.write_text(rendered(replace(draft, examples=first)), encoding="utf-8")
        profile = load_file(path, known)
        given, decoded = _first_message(profile, draft, said)
        path.write_text(rendered(replace(draft, examples=examples_of(profile, given, decoded))), encoding="utf-8")
        load_file(path, known)
    except Exception as exc:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(before, encoding="utf-8")
        if isinstance(exc, ConfigError):  # of a file that is not there any more: the answer is what was wrong
            raise RequestError(
                "profile.new_refused", key=exc.facts.get("key", "-"), expected=exc.facts.get("expected", "-")
            ) from exc
        raise
    schema = folder / "profile.schema.json"
    if not schema.exists():
        schema.write_text(profile_schema_text(), encoding="utf-8")
    return path


def _first_message(profile: Profile, draft: Draft, said: bytes) -> tuple[dict[str, object], Decoded]:
    """Give the first message as an example has it, and what it says."""
    from iot_core.profiles.draft import built, uplink_given

    topic = draft.topic.replace("{address}", "example").replace("+", "any")
    binary = draft.way in BINARY or draft.way == "cbor"
    if not said:
        try:
            given = built(profile, draft.way)
        except ValueError as exc:
            raise RequestError("profile.sample_says_nothing", detail=str(exc)) from exc
    else:
        given = {"hex": said.hex()} if binary else {"payload": said.decode("utf-8", "replace")}
    if topic:
        given = {"topic": topic, **given}
    if draft.way in {"lorawan", "records"} and draft.port is not None:
        given["port"] = draft.port
    decoded = profile.decode(uplink_given(profile, given))
    if not decoded.samples:
        why = "-" if not decoded.problems else f"{decoded.problems[0].reason}: {decoded.problems[0].detail}"
        raise RequestError("profile.sample_says_nothing", detail=why)
    return given, decoded


def _print(path: Path, draft: Draft) -> None:
    line("profile.written", file=path)
    fact_lines(
        [("cli.col_model", draft.model), ("profile.col_values", ", ".join(each.metric for each in draft.entries))]
    )
    line("profile.next", file=path, model=draft.model)
