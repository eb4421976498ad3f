"""docs/profiles.md says what the software does: its table of models, its profile of ten minutes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from iot_core.profiles import Profile, Profiles, check
from simulators.fleet import voice_of

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = Path(__file__).parents[2] / "docs" / "profiles.md"
FORMATS = {
    "NativeFormat": "JSON, CBOR, SenML",
    "JsonFormat": "JSON",
    "SenmlFormat": "SenML",
    "SparkplugFormat": "Sparkplug B",
}


def speaks(profile: Profile) -> str:
    """Say protocol and format as a person asks for them."""
    if profile.modbus is not None:
        return "Modbus"
    if profile.address.startswith("lorawan:"):
        return "LoRaWAN over MQTT, bytes"
    formats = [route.format for route in profile.routes] if profile.format is None else [profile.format]
    names = dict.fromkeys(
        "protobuf" if getattr(each, "message", None) else FORMATS.get(type(each).__name__, "bytes")
        for each in formats
        if each.keys
    )
    native = profile.address.startswith("iot:")
    over = "MQTT and CoAP" if profile.model.startswith("native-") else "CoAP" if native else "MQTT"
    if profile.address.startswith("camera:"):
        return "RTSP, ONVIF (driver `camera`)"
    return f"{over}, {', '.join(names)}"


def simulated(profile: Profile) -> str:
    """Say whether `iot sim run --model` plays it."""
    return "no" if voice_of(profile) is None else "yes"


def table(profiles: Profiles) -> Iterator[str]:
    """Write the table of models, a line each."""
    yield "| class | model | speaks | examples | simulated | source |"
    yield "|---|---|---|---|---|---|"
    for profile in sorted(profiles.all(), key=lambda each: (each.class_key, each.model)):
        good = sum(not example.held for example in profile.examples)
        cells = (
            profile.class_key,
            f"`{profile.model}` {profile.title.en}",
            speaks(profile),
            f"{good} good, {len(profile.examples) - good} bad",
            simulated(profile),
            profile.source,
        )
        yield f"| {' | '.join(cells)} |"


def test_the_table_of_models_is_that_of_the_files(profiles: Profiles) -> None:
    expected = "\n".join(table(profiles))
    written = GUIDE.read_text(encoding="utf-8").split("prints this table when it differs -->\n")[1]
    assert written.split("\n<!-- /models")[0] == expected, f"docs/profiles.md should say:\n{expected}"


def test_the_profile_in_the_guide_is_right(tmp_path: Path, profiles: Profiles) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    text = textwrap.dedent(guide.partition("```yaml\n")[2].partition("```")[0])
    (tmp_path / "air_quality").mkdir()
    (tmp_path / "air_quality" / "acme.yaml").write_text(text, encoding="utf-8")
    results = check(tmp_path / "air_quality" / "acme.yaml", profiles)
    assert [each.ok for each in results] == [True, True]
