"""Where things stand: wards of Quảng Ninh around Hạ Long Bay, their streets, and buildings with detectors."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.physics.chance import between, seeded


@dataclass(frozen=True, slots=True)
class Ward:
    """A ward (code: Quyết định 19/2025/QĐ-TTg) with the middle of its built-up part and streets that run there."""

    key: str
    code: str
    name: str
    name_en: str
    latitude: float
    longitude: float
    streets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Building:
    """A building that detectors watch over."""

    key: str
    name: str
    ward: Ward


@dataclass(frozen=True, slots=True)
class Place:
    """A point on a street or in a building."""

    name: str
    ward: Ward
    latitude: float
    longitude: float


PROVINCE_KEY, PROVINCE_CODE, PROVINCE, PROVINCE_EN = "quang-ninh", "22", "Tỉnh Quảng Ninh", "Quang Ninh Province"
WARDS = (
    Ward("hong-gai", "06685", "Phường Hồng Gai", "Hong Gai Ward", 20.9520, 107.0790,
         ("Lê Thánh Tông", "Trần Hưng Đạo", "Lê Quý Đôn", "25 Tháng 4")),
    Ward("ha-long", "06688", "Phường Hạ Long", "Ha Long Ward", 20.9545, 107.1010,
         ("Nguyễn Văn Cừ", "Trần Quốc Nghiễn", "Lê Lợi", "Kênh Liêm")),
    Ward("bai-chay", "06673", "Phường Bãi Cháy", "Bai Chay Ward", 20.9600, 107.0390,
         ("Hạ Long", "Hậu Cần", "Vườn Đào", "Cái Dăm")),
    Ward("cao-xanh", "06658", "Phường Cao Xanh", "Cao Xanh Ward", 20.9680, 107.0840,
         ("Cao Xanh", "Trần Phú", "Ngô Quyền")),
    Ward("ha-lam", "06676", "Phường Hà Lầm", "Ha Lam Ward", 20.9690, 107.1130,
         ("Nguyễn Văn Trỗi", "Hà Lầm")),
    Ward("ha-tu", "06652", "Phường Hà Tu", "Ha Tu Ward", 20.9570, 107.1440,
         ("Trần Nhật Duật", "Hà Tu")),
    Ward("viet-hung", "06661", "Phường Việt Hưng", "Viet Hung Ward", 20.9900, 106.9750,
         ("Hữu Nghị", "Đồng Đăng")),
    Ward("tuan-chau", "06706", "Phường Tuần Châu", "Tuan Chau Ward", 20.9330, 106.9880,
         ("Hoàng Quốc Việt", "Tuần Châu")),
)  # fmt: skip
_SPREAD = 0.0085
"""Half the width of a ward's built-up part, in degrees: about 900 m."""


def buildings() -> tuple[Building, ...]:
    """Name the buildings, the one that will burn first."""
    kinds = (("chung-cu", "Chung cư"), ("truong-hoc", "Trường học"), ("cho", "Chợ"), ("khach-san", "Khách sạn"))
    return tuple(
        Building(f"{short}-{ward.key}", f"{long} {ward.name.removeprefix('Phường ')}", ward)
        for short, long in kinds
        for ward in WARDS
    )


def somewhere(seed: int, *which: int | str) -> Place:
    """Pick a point on a street; the first wards of the list are the denser ones."""
    chance = between(0, 1, seed, *which, "ward")
    ward = WARDS[int(len(WARDS) * chance**1.5)]
    return within(ward, seed, *which)


def within(ward: Ward, seed: int, *which: int | str) -> Place:
    """Pick a point on one of a ward's streets: streets run side by side, bent like the shore."""
    lane = seeded(seed, *which, "street") % len(ward.streets)
    along = between(-1, 1, seed, *which, "along")
    across = (lane + 0.5) / len(ward.streets) * 2 - 1
    return Place(
        name=ward.streets[lane],
        ward=ward,
        latitude=ward.latitude + _SPREAD * (0.75 * across + 0.25 * along * along + between(-0.02, 0.02, seed, *which)),
        longitude=ward.longitude + _SPREAD * along,
    )
