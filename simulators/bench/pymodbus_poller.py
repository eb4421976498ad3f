"""What a team would write without us, and no more of it than the asking: pymodbus' client, one for each gateway.

Run as `python -m simulators.bench.pymodbus_poller` with a Rounds as JSON on standard input; a Polled comes out. It
decodes and stores nothing. Its gateways begin one after the other, as ours do: all at once would be cheaper (one
wake-up for many answers) and is what nobody wants in the field.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
from pymodbus.client import AsyncModbusTcpClient


class Rounds(msgspec.Struct, frozen=True):
    """Whom to ask how often."""

    ports: list[int]
    units: int
    registers: int
    interval_s: float
    seconds: float


class Polled(msgspec.Struct, frozen=True):
    """What it took, from the first poll on."""

    polls: int
    cpu_s: float


async def _poll(port: int, rounds: Rounds, begun: float, end: float) -> int:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)
    await client.connect()
    loop, polls = asyncio.get_running_loop(), 0
    try:
        while True:
            for unit in range(1, rounds.units + 1):
                due = begun + (polls // rounds.units + (unit - 1) / rounds.units) * rounds.interval_s
                if due >= end:
                    return polls
                await asyncio.sleep(max(0.0, due - loop.time()))
                answer = await client.read_holding_registers(0, count=rounds.registers, device_id=unit)
                assert len(answer.registers) == rounds.registers
                polls += 1
    finally:
        client.close()


async def main(rounds: Rounds) -> Polled:
    """Poll all gateways side by side."""
    used = time.process_time()
    begun = asyncio.get_running_loop().time()
    step = rounds.interval_s / rounds.units / len(rounds.ports)
    end = begun + rounds.seconds
    asking = (_poll(port, rounds, begun + place * step, end) for place, port in enumerate(rounds.ports))
    polls = await asyncio.gather(*asking)
    return Polled(sum(polls), time.process_time() - used)


if __name__ == "__main__":
    done = asyncio.run(main(msgspec.json.decode(sys.stdin.buffer.read(), type=Rounds)))
    sys.stdout.write(msgspec.json.encode(done).decode())
