"""What a device's refusals teach, against a model of devices that refuse whatever touches a register they lack."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.blocks import KEEP_S, Blocks
from tests.drivers.modbus_profiles import Read, merge


def cycle(blocks: Blocks, has: set[int], now: float = 0.0) -> tuple[set[int], int]:
    """Play a cycle against a device that has these registers; give what was read and how often it was asked."""
    waiting, got, asked = list(blocks.start(now)), set[int](), 0
    while waiting:
        block = waiting.pop(0)
        asked += 1
        touched = set(range(block.address, block.address + block.count))
        if touched <= has:
            got |= touched
            blocks.answered(block)
        else:
            waiting = [*blocks.refuse(block, now), *waiting]
    return got, asked


def atoms_of(addresses: list[int], size: int = 1) -> tuple[Read, ...]:
    return tuple(Read("holding", address, size) for address in sorted(set(addresses)))


def test_a_block_over_a_hole_is_cut_at_the_hole_and_stays_cut() -> None:
    blocks = Blocks(atoms_of([0, 1, 2, 6, 7]), gap=8, merge=merge)
    assert blocks.start(0) == (Read("holding", 0, 8),)
    assert cycle(blocks, {0, 1, 2, 6, 7}) == ({0, 1, 2, 6, 7}, 3)
    assert cycle(blocks, {0, 1, 2, 6, 7}) == ({0, 1, 2, 6, 7}, 2), "learned"
    assert blocks.left_out == ()


def test_the_one_value_that_a_device_lacks_is_left_out() -> None:
    blocks = Blocks(atoms_of(list(range(20))), gap=0, merge=merge)
    has = set(range(20)) - {13}
    got, asked = cycle(blocks, has)
    assert got == has
    assert asked <= 11, "halved, not tried one by one"
    assert blocks.left_out == (Read("holding", 13, 1),)
    assert cycle(blocks, has)[1] < 6


def test_what_was_learned_is_tried_anew_ever_more_rarely() -> None:
    blocks = Blocks(atoms_of([0, 1]), gap=0, merge=merge)
    cycle(blocks, {0}, now=0)
    assert cycle(blocks, {0, 1}, now=KEEP_S - 1)[0] == {0}
    assert cycle(blocks, {0}, now=KEEP_S)[0] == {0}
    assert cycle(blocks, {0, 1}, now=KEEP_S + 2 * KEEP_S - 1)[0] == {0}
    assert cycle(blocks, {0, 1}, now=KEEP_S + 2 * KEEP_S)[0] == {0, 1}
    assert blocks.left_out == ()


def test_a_device_that_refuses_everything_is_asked_again_in_the_next_cycle() -> None:
    blocks = Blocks(atoms_of([0, 1, 2]), gap=0, merge=merge)
    assert cycle(blocks, set())[0] == set()
    assert cycle(blocks, {0, 1, 2}, now=10)[0] == {0, 1, 2}, "it was only starting"


def test_a_block_that_is_met_with_silence_three_times_in_a_row_is_left_out() -> None:
    blocks = Blocks(atoms_of([0, 50]), gap=0, merge=merge)
    far = Read("holding", 50, 1)
    assert [blocks.silent(far, 0), blocks.silent(far, 0)] == [False, False]
    blocks.answered(far)
    assert [blocks.silent(far, 0) for _ in range(3)] == [False, False, True]
    assert blocks.start(1) == (Read("holding", 0, 1),)
    assert blocks.start(KEEP_S) == (Read("holding", 0, 1), far)


@given(
    st.lists(st.integers(0, 120), min_size=1, max_size=40),
    st.sets(st.integers(0, 130)),
    st.integers(0, 20),
    st.sampled_from([None, 4, 30]),
)
def test_all_that_a_device_has_is_read_in_the_first_cycle_already(
    addresses: list[int], lacks: set[int], gap: int, longest: int | None
) -> None:
    blocks = Blocks(atoms_of(addresses), gap, lambda atoms, most: merge(atoms, most, longest))
    has = set(range(200)) - lacks
    got, asked = cycle(blocks, has)
    assert got & set(addresses) == set(addresses) & has
    assert asked <= 3 * len(set(addresses))
    again, asked_again = cycle(blocks, has)
    assert again & set(addresses) == set(addresses) & has
    assert asked_again <= asked


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60), st.integers(0, 60))
def test_merged_requests_hold_every_value_and_keep_to_the_limits(addresses: list[int], gap: int) -> None:
    for table, most in (("holding", 125), ("coil", 2000)):
        atoms = tuple(Read(table, address, 1) for address in sorted(set(addresses)))
        merged = merge(atoms, gap)
        assert all(each.count <= most for each in merged)
        covered = {each.address + at for each in merged for at in range(each.count)}
        assert set(addresses) <= covered
        assert len(merged) <= len(atoms)
