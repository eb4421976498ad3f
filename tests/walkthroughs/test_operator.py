"""Hoa's first hour: the districts of her province vanish; what is called otherwise now is found as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Core
    from tests.walkthroughs.terminal import Terminal

AREAS = """key;kind;name;parent
hoa-22;province;Tỉnh Quảng Đông;
hoa-193;district;Thành phố Hạ Vịnh;hoa-22
hoa-01;ward;Phường Giếng Đáy;hoa-193
hoa-02;ward;Phường Hùng Thắng;hoa-193
"""


def test_a_district_is_merged_found_by_its_old_name_and_taken_back(terminal: Terminal, city: Core) -> None:
    (city.folder / "areas.csv").write_text(AREAS)
    terminal("area import areas.csv").has("iot undo")
    for number in (1, 2):
        terminal(f"device add hoa-lamp-{number} --profile native-streetlight --area hoa-0{number}")
    wards = terminal("area merge hoa-01 hoa-02 --into hoa-new", "--name", "Phường Bãi Vịnh", "--on", "2025-07-01")
    wards.has("iot undo")
    district = terminal("area merge hoa-193 --into hoa-22 --on 2025-07-01").has("iot undo")
    terminal("device list --search", "gieng day").has("hoa-lamp-1")
    terminal("device list --search", "HA VINH bai").has("hoa-lamp-1", "hoa-lamp-2")
    terminal("device show hoa-lamp-1").has("Tỉnh Quảng Đông › Phường Bãi Vịnh")
    terminal("area show hoa-01").has("hoa-new")

    first, second = wards.number("iot undo"), district.number("iot undo")
    terminal("device edit hoa-lamp-1 --area hoa-22").has("iot undo")
    terminal(f"undo {first}", code=1).has("hoa-new", "changed again")
    terminal(f"undo {second}").has("iot undo")
    terminal("audit hoa-193").has("area.merge", "undo")
