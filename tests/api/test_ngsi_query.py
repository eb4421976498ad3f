"""NGSI-LD's q and geo-queries: what holds for which entity, and that nothing odd is taken for an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from iot_core.api.entities import Attribute
from iot_core.api.ngsi_query import geo, query
from iot_core.errors import RequestError
from tests.api.city import City
from tests.api.test_ngsi import populated, read

AT = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
STATION = {
    "pm25": Attribute(37.4, AT, "GQ"), "name": Attribute('Trạm "A"'), "danger": Attribute(value=False, at=AT),
    "areaServed": Attribute("Hồng Gai"), "controlledProperty": Attribute(["smoke", "battery"]),
    "dateObserved": Attribute("2026-09-01T03:00:00.000Z"), "refDevice": Attribute("urn:x:1", kind="Relationship"),
    "location": Attribute({"type": "Point", "coordinates": [107.078, 20.951]}, kind="GeoProperty"),
}  # fmt: skip
SQUARE = "[[[107.0,20.9],[107.1,20.9],[107.1,21.0],[107.0,21.0],[107.0,20.9]]]"
HOLED = SQUARE[:-1] + ",[[107.07,20.94],[107.08,20.94],[107.08,20.96],[107.07,20.96],[107.07,20.94]]]"


@pytest.mark.parametrize(
    ("q", "holds"),
    [
        ("pm25", True), ("pm10", False), ("pm25>37", True), ("pm25>37.4", False), ("pm25>=37.4", True),
        ("pm25<40;pm25!=37.4", False), ("pm10>1|pm25==37.4", True), ("(pm10|pm25);(danger==true|name)", True),
        ("pm25==30..40", True), ("pm25!=30..40", False), ("pm25==1,37.4", True), ("pm25>true", False),
        ("danger==false", True), ("danger==0", False), ('areaServed=="Hồng Gai"', True), ('pm25=="37.4"', False),
        ('name~="^Trạm"', True), ('name!~="^Trạm"', False), ('name~="\\"A\\"$"', True), ('name~="^A$"', False),
        ('controlledProperty=="smoke"', True), ('controlledProperty!="smoke"', False),
        ("dateObserved>2026-09-01T09:59:00+07:00", True), ("dateObserved<2026-09-01T03:00:00Z", False),
        ("pm25.observedAt>=2026-09-01T03:00:00Z", True), ('pm25.unitCode=="GQ"', True), ("pm25.__class__", False),
        ("refDevice==urn:x:1", True), ("location>3", False),
    ],
)  # fmt: skip
def test_query_holds_or_does_not(q: str, holds: bool) -> None:
    assert query(q)(STATION) is holds


@pytest.mark.parametrize(
    "q",
    ["", ">3", "pm25>", "pm25>3;", "(pm25", "pm25)", "pm25==3 4", 'name=="a', "pm25=3", "(" * 40 + "a" + ")" * 40,
     r'name=="\q"', r'name=="\ud800"', 'name=="\n"'],
)  # fmt: skip
def test_what_is_no_query_is_refused(q: str) -> None:
    with pytest.raises(RequestError):
        query(q)


@pytest.mark.parametrize(
    ("georel", "geometry", "coordinates", "holds"),
    [
        ("near;maxDistance==120", "Point", "[107.079,20.951]", True),
        ("near;maxDistance==100", "Point", "[107.079,20.951]", False),
        ("near;minDistance==100", "Point", "[107.079,20.951]", True),
        ("near;minDistance==50;maxDistance==90", "Point", "[107.079,20.951]", False),
        ("within", "Polygon", SQUARE, True), ("intersects", "Polygon", SQUARE, True),
        ("disjoint", "Polygon", SQUARE, False), ("within", "Polygon", HOLED, False),
        ("disjoint", "Polygon", HOLED, True),
    ],
)  # fmt: skip
def test_place_is_looked_at(georel: str, geometry: str, coordinates: str, holds: bool) -> None:
    """0.001 degrees of longitude are 103.8 m at 20.951 degrees north (111,195 m x cos)."""
    assert geo(georel, geometry, coordinates, None)(STATION) is holds
    assert geo(georel, geometry, coordinates, "elsewhere")(STATION) is False


@pytest.mark.parametrize(
    ("georel", "geometry", "coordinates"),
    [
        ("near", "Point", "[1,2]"), ("near;maxDistance==far", "Point", "[1,2]"), ("near;radius==3", "Point", "[1,2]"),
        ("near;maxDistance==1", "Polygon", SQUARE), ("within", "Point", "[1,2]"), ("within", "Circle", "[1,2]"),
        ("within", "Polygon", "[[1,2]]"), ("equals", "Polygon", SQUARE), ("within", "Polygon", ""),
        ("within", "Polygon", f"[[{','.join(['[1,2]'] * 1001)}]]"),
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(georel: str, geometry: str, coordinates: str) -> None:
    with pytest.raises(RequestError):
        geo(georel, geometry, coordinates, None)


async def test_entities_are_asked_for_by_value_and_place_page_by_page(city: City) -> None:
    await populated(city)
    await city.add("far", "air_quality", latitude=10.0, longitude=106.0)
    await city.path.say("far", '{"pm25": 80}')

    async def ids(asked: str) -> list[str]:
        reply = await read(city, f"entities?{asked}")
        assert reply.status == 200, reply.data
        return [each["id"].rpartition(":")[2] for each in reply.json]

    near = "georel=near;maxDistance%3D%3D2000&geometry=Point&coordinates=[107.078,20.951]"
    assert await ids(f"type=AirQualityObserved&q={quote('pm25>40')}") == ["far"]
    assert await ids(f"type=AirQualityObserved&{near}") == ["air"]
    assert await ids(f"q={quote('pm25>0')}&limit=1&offset=1") == ["far"]
    assert await ids("attrs=floodLevelStatus,powerState") == ["lamp", "river"]
    counted = await read(city, f"entities?q={quote('pm25>0')}&limit=0&count=true")
    assert (counted.json, counted.headers["NGSILD-Results-Count"]) == ([], "2")
    critical = quote('severity=="critical"')
    assert {
        each["severity"] for each in (await read(city, f"entities?type=Alert&q={critical}&options=keyValues")).json
    } == {"critical"}
    one = await read(city, "entities/urn:ngsi-ld:AirQualityObserved:air?attrs=pm25")
    assert set(one.json) == {"id", "type", "pm25"}
    for refused in ("type=Device&q=a%3E", "type=Device&idPattern=.*", "type=Device&georel=near"):
        assert (await read(city, f"entities?{refused}")).status == 400, refused
    assert await ids(f"type=WaterConsumptionObserved&q={quote('waterConsumption>0')}") == ["meter"]
    hidden = await read(city, f"entities?q={quote('waterConsumption>0')}", role="viewer")
    assert hidden.json == [], "a household is not found by its consumption either"
