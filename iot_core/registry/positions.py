"""Where a device can stand: positions typed the wrong way round, and points outside of an area. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["inside", "swapped"]


def swapped(latitude: float, longitude: float) -> bool:
    """Say whether latitude and longitude were surely exchanged: there is no latitude beyond 90 degrees."""
    return abs(latitude) > 90 >= abs(longitude)


def inside(geometry: Mapping[str, Any], latitude: float, longitude: float) -> bool:
    """Say whether a point lies in a GeoJSON Polygon or MultiPolygon (RFC 7946); other geometries hold all."""
    match geometry.get("type"):
        case "Polygon":
            return _in_polygon(geometry["coordinates"], longitude, latitude)
        case "MultiPolygon":
            return any(_in_polygon(rings, longitude, latitude) for rings in geometry["coordinates"])
    return True


def _in_polygon(rings: Sequence[Sequence[Sequence[float]]], x: float, y: float) -> bool:
    """Count crossings of all rings: an odd number is inside, and a hole takes its part out by itself."""
    return sum(_crossings(ring, x, y) for ring in rings) % 2 == 1


def _crossings(ring: Sequence[Sequence[float]], x: float, y: float) -> int:
    """Count the edges that a ray from the point towards growing x crosses."""
    return sum(
        1 for (x1, y1), (x2, y2) in _edges(ring) if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    )


def _edges(ring: Sequence[Sequence[float]]) -> Iterable[tuple[tuple[float, float], tuple[float, float]]]:
    points = [(point[0], point[1]) for point in ring]
    return zip(points, points[1:] + points[:1], strict=True)
