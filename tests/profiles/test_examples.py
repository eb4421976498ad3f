"""Every shipped model says what its published messages say."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot_core.errors import NotFoundError
from iot_core.profiles import Profile, Profiles, check, check_example, example_uplink, explain, uplink_of


def test_every_example_of_the_model_holds(profile: Profile) -> None:
    results = [check_example(profile, example) for example in profile.examples]
    assert [(each.example, each.got, each.expected) for each in results if not each.ok] == []


def test_each_example_can_be_explained_step_by_step(profile: Profile) -> None:
    for example in profile.examples:
        uplink = example_uplink(profile, example)
        steps = explain(profile, uplink)
        said = [step.after for step in steps if step.name == "sample"]
        assert said == [dict(sample.values) for sample in profile.decode(uplink).samples]
        assert steps


def test_models_of_vendors_cover_the_classes_and_protocols(profiles: Profiles) -> None:
    models = [each for each in profiles.all() if not each.model.startswith("native-")]
    schemes = {each.address.partition(":")[0] for each in models}
    assert len(models) >= 45
    assert {each.class_key for each in models} >= set(profiles.classes) - {"camera_health"}
    assert schemes >= {"iot", "mqtt", "lorawan", "modbus"}


def test_a_wrong_example_is_reported_with_both_sides(tmp_path: Path, profiles: Profiles) -> None:
    shipped = Path(profiles.get("tuf-2000m").file)
    folder = tmp_path / "water_meter"
    folder.mkdir()
    (folder / "mine.yaml").write_text(shipped.read_text().replace("flow: 1.5, volume", "flow: 2.5, volume"))
    results = check(folder / "mine.yaml", profiles)
    assert [each.ok for each in results] == [False, True, True]
    assert "1.5" in results[0].got
    assert "2.5" in results[0].expected


def test_check_of_a_broken_file_says_where(tmp_path: Path, profiles: Profiles) -> None:
    folder = tmp_path / "water_meter"
    folder.mkdir()
    (folder / "mine.yaml").write_text("model: mine\nmodel: twice\n")
    (result,) = check(folder / "mine.yaml", profiles)
    assert not result.ok
    assert result.error is not None
    assert result.error.facts["line"] == 2
    assert result.error.facts["key"] == "model"


def test_an_unknown_model_names_similar_ones(profiles: Profiles) -> None:
    with pytest.raises(NotFoundError) as caught:
        profiles.get("tuf2000m")
    assert "tuf-2000m" in str(caught.value.facts["like"])


def test_uplink_of_takes_text_as_it_is_typed(profiles: Profiles) -> None:
    native = profiles.native("streetlight")
    decoded = native.decode(uplink_of(native, text='{"power": 71.5}'))
    assert decoded.samples[0].values == {"power": 71.5}
