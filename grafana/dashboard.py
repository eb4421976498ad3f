"""The city on one dashboard: map, what is wrong, latest values, a chart a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import geomap, stat, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import geomap as geomap_models

from grafana import sql
from grafana.query import PostgresQuery, data_source_ref
from iot_core.cli.words import SYMBOLS, symbol
from iot_core.messages import LOCAL, text, title
from iot_core.model import DeviceClass, Metric, MetricType, Quality, Severity

UID: Final = "iot-city"
FOLDER_UID: Final = "iot"
DATA_SOURCE_UID: Final = "iot-store"
WIDTH: Final = 24

# What a person asks of a class first; a class without an entry shows its first number.
_SHOWN: Final = {
    "air_quality": "pm25",
    "camera_health": "latency",
    "fire_detector": "smoke_density",
    "flood_gauge": "level",
    "lighting_cabinet": "power",
    "panic_button": "battery",
    "streetlight": "power",
    "water_meter": "flow",
    "water_quality": "turbidity",
    "weather": "temperature",
}

# UCUM to Grafana's unit ids; an unknown one is shown as a suffix.
_UNITS: Final = {
    "Cel": "celsius",
    "%": "percent",
    "W": "watt",
    "V": "volt",
    "A": "amp",
    "kW.h": "kwatth",
    "ug/m3": "conμgm3",
    "m": "lengthm",
    "ms": "ms",
}
_MARKER: Final = {
    "size": {"fixed": 6, "min": 4, "max": 12},
    "opacity": 0.8,
    "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
    "color": {"field": "level", "fixed": "green"},
}
_COLOURS: Final = ("green", "#8e8e8e", "orange", "red")


def build(classes: Mapping[str, DeviceClass], lang: str, data_source: str = DATA_SOURCE_UID) -> dict[str, Any]:
    """Build the dashboard's JSON in one language."""
    shown = [device_class for device_class in classes.values() if _first_metric(device_class) is not None]
    builder = (
        dashboards.Dashboard(text("grafana.title", lang))
        .uid(UID)
        .tags(["iot"])
        .editable()
        .refresh("10s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(_area_variable(lang, data_source))
        .with_panel(_map(lang, data_source).id(1).grid_pos(_at(0, 0, 14, 14)))
        .with_panel(_states(lang, data_source).id(2).grid_pos(_at(14, 0, 10, 4)))
        .with_panel(_alarms(lang, data_source).id(3).grid_pos(_at(14, 4, 10, 10)))
    )
    for index, device_class in enumerate(shown):
        place = _at(12 * (index % 2), 14 + 8 * (index // 2), 12, 8)
        builder = builder.with_panel(_chart(device_class, lang, data_source).id(10 + index).grid_pos(place))
    below = 14 + 8 * ((len(shown) + 1) // 2)
    meters = [(each, metric) for each in classes.values() for metric in each.metrics if metric.counter]
    for index, (device_class, metric) in enumerate(meters):
        drawn = _consumption(device_class, metric, lang, data_source).id(100 + 2 * index)
        listed = _consumption_by_device(device_class, metric, lang, data_source).id(101 + 2 * index)
        builder = builder.with_panel(drawn.grid_pos(_at(0, below, 14, 8)))
        builder = builder.with_panel(listed.grid_pos(_at(14, below, 10, 8)))
        below += 8
    builder = builder.with_panel(_complete(lang, data_source).id(5).grid_pos(_at(0, below, 6, 10)))
    builder = builder.with_panel(_incomplete(lang, data_source).id(6).grid_pos(_at(6, below, 18, 10)))
    builder = builder.with_panel(_latest(classes, lang, data_source).id(4).grid_pos(_at(0, below + 10, WIDTH, 10)))
    plain: dict[str, Any] = _plain(builder.build())
    return plain


def _plain(part: Any) -> Any:
    """Turn the SDK's objects into plain JSON data."""
    if hasattr(part, "to_json"):
        return _plain(part.to_json())
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    return part


def _at(x: int, y: int, w: int, h: int) -> models.GridPos:
    return models.GridPos(x=x, y=y, w=w, h=h)


def _area_variable(lang: str, data_source: str) -> dashboards.QueryVariable:
    return (
        dashboards.QueryVariable("area")
        .label(text("grafana.area", lang))
        .datasource(data_source_ref(data_source))
        .query(sql.areas(lang))
        .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _map(lang: str, data_source: str) -> geomap.Panel:
    states = ("ok", "never", "silent", "alarm")
    where = common_builders.FrameGeometrySource().mode(common.FrameGeometrySourceMode.COORDS)
    layer = (
        common_builders.MapLayerOptions()
        .type("markers")
        .name(text("grafana.devices", lang))
        .location(where.latitude("latitude").longitude("longitude"))
        .config({"showLegend": False, "style": _MARKER})
        .tooltip(True)
    )
    # No tiles: a basemap would be fetched from outside. Whoever runs a tile server sets one in the panel.
    nothing = common_builders.MapLayerOptions().type("xyz").name("").config({"url": ""}).opacity(0)
    return (
        geomap.Panel()
        .title(text("grafana.map", lang))
        .datasource(data_source_ref(data_source))
        .with_target(PostgresQuery(sql.MAP, data_source))
        .view(geomap.MapViewConfig().id("fit").all_layers(True))
        .basemap(nothing)
        .layers([layer])
        .tooltip(geomap.TooltipOptions().mode(geomap_models.TooltipMode.DETAILS))
        .override_by_name("level", _levels([text(f"grafana.state_{state}", lang) for state in states]))
    )


def _levels(names: list[str]) -> list[models.DynamicConfigValue]:
    """Colour and name the numbers 0..3 of a device's state."""
    options = {
        str(number): {"text": name, "color": colour, "index": number}
        for number, (name, colour) in enumerate(zip(names, _COLOURS, strict=True))
    }
    steps = [{"value": None if number == 0 else number, "color": colour} for number, colour in enumerate(_COLOURS)]
    return [
        models.DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": options}]),
        models.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}),
        models.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
    ]


def _states(lang: str, data_source: str) -> stat.Panel:
    panel = (
        stat.Panel()
        .title(text("grafana.states", lang))
        .datasource(data_source_ref(data_source))
        .with_target(PostgresQuery(sql.STATES, data_source))
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for state, colour in (("alarm", "red"), ("silent", "orange"), ("never", "#8e8e8e"), ("ok", "green")):
        quiet = [{"value": None, "color": "#4a4a4a"}, {"value": 1, "color": colour}]
        panel = panel.override_by_name(
            state,
            [
                models.DynamicConfigValue(id_val="displayName", value=text(f"grafana.state_{state}", lang)),
                models.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": quiet}),
                models.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
            ],
        )
    return panel


def _table(
    name: str,
    lang: str,
    query: PostgresQuery,
    headers: tuple[str, ...],
    words: Mapping[str, Mapping[str, str]] | None = None,
) -> table.Panel:
    """Make a table whose columns are headed in one language; `words` says a column's values in it too."""
    panel = table.Panel().title(text(name, lang)).datasource(data_source_ref(query.data_source)).with_target(query)
    for header in headers:
        said = models.DynamicConfigValue(id_val="displayName", value=text(f"grafana.column_{header}", lang))
        mapped = (words or {}).get(header, {})
        panel = panel.override_by_name(header, [said, *([_mappings(mapped)] if mapped else [])])
    return panel


def _mappings(words: Mapping[str, str]) -> models.DynamicConfigValue:
    options = {value: {"text": said, "index": index} for index, (value, said) in enumerate(words.items())}
    return models.DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": options}])


def _words(kind: str, lang: str, *members: str) -> dict[str, str]:
    return {member: text(f"cli.{kind}_{member}", lang) for member in members}


def _truth(lang: str) -> dict[str, str]:
    return {"true": text("cli.yes", lang), "false": text("cli.no", lang)}


def _alarms(lang: str, data_source: str) -> table.Panel:
    headers = ("time", "severity", "alarm", "device", "area", "state", "value", "acknowledged_by", "id")
    query = PostgresQuery(sql.open_alarms(lang), data_source)
    words = {
        "severity": _words("severity", lang, *Severity),
        "state": _words("alarm_is", lang, "unacknowledged", "acknowledged", "returned"),
        "value": _truth(lang),
        "acknowledged_by": {LOCAL: text("cli.local_person", lang)},
    }
    return _table("grafana.alarms", lang, query, headers, words).no_value(text("grafana.no_alarms", lang))


def _latest(classes: Mapping[str, DeviceClass], lang: str, data_source: str) -> table.Panel:
    headers = ("device", "class", "metric", "value", "ucum", "time", "quality")
    words = {
        "class": {each.key: title(each.title, lang) for each in classes.values()},
        "ucum": SYMBOLS,
        "quality": {each.name.lower(): text(f"cli.quality_{each.name.lower()}", lang) for each in Quality},
    }
    return _table("grafana.latest", lang, PostgresQuery(sql.latest(lang), data_source), headers, words).filterable(True)


def _chart(device_class: DeviceClass, lang: str, data_source: str) -> timeseries.Panel:
    metric = _first_metric(device_class)
    assert metric is not None
    return (
        timeseries.Panel()
        .title(_both(device_class, metric, lang))
        .datasource(data_source_ref(data_source))
        .with_target(PostgresQuery(sql.chart(device_class, metric), data_source, series=True))
        .unit(_unit(metric))
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
    )


def _consumption(device_class: DeviceClass, metric: Metric, lang: str, data_source: str) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(f"{_both(device_class, metric, lang)} · {text('grafana.consumption', lang)}")
        .datasource(data_source_ref(data_source))
        .with_target(PostgresQuery(sql.consumption(device_class, metric), data_source, series=True))
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(60)
        .unit(_unit(metric))
    )


def _consumption_by_device(device_class: DeviceClass, metric: Metric, lang: str, data_source: str) -> table.Panel:
    query = PostgresQuery(sql.consumption_by_device(device_class, metric), data_source)
    panel = _table("grafana.by_device", lang, query, ("device", "consumption")).unit(_unit(metric))
    return panel.title(f"{_both(device_class, metric, lang)} · {text('grafana.by_device', lang)}")


def _complete(lang: str, data_source: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(text("grafana.completeness", lang))
        .datasource(data_source_ref(data_source))
        .with_target(PostgresQuery(sql.COMPLETENESS, data_source))
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .unit("percentunit")
        .decimals(1)
    )


def _incomplete(lang: str, data_source: str) -> table.Panel:
    headers = ("time", "device", "area", "expected", "stored")
    panel = _table("grafana.incomplete", lang, PostgresQuery(sql.incomplete(lang), data_source), headers)
    for column in ("share", "by_seq"):
        share = [
            models.DynamicConfigValue(id_val="displayName", value=text(f"grafana.column_{column}", lang)),
            models.DynamicConfigValue(id_val="unit", value="percentunit"),
        ]
        panel = panel.override_by_name(column, share)
    return panel.no_value(text("grafana.nothing_missing", lang))


def _both(device_class: DeviceClass, metric: Metric, lang: str) -> str:
    return f"{title(device_class.title, lang)} · {title(metric.title, lang)}"


def _unit(metric: Metric) -> str:
    shown = symbol(metric.ucum)
    return _UNITS.get(metric.ucum, f"suffix: {shown}" if shown else "none")


def _first_metric(device_class: DeviceClass) -> Metric | None:
    wanted = device_class.metric(_SHOWN.get(device_class.key, ""))
    numbers = (metric for metric in device_class.metrics if metric.type in {MetricType.FLOAT, MetricType.INT})
    return wanted or next(numbers, None)
