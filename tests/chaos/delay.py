"""Relay that hands each packet of a TUN device back after a while, in order.

    python -m tests.chaos.delay DEVICE SECONDS

Whoever routes packets into the device gets them from it, later (`tests/chaos/network.py`).
"""

import asyncio
import fcntl
import os
import struct
import sys
from collections import deque
from contextlib import suppress

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LARGEST_PACKET = 65535


async def relay(device: str, seconds: float) -> None:
    """Relay until ended."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    loop = asyncio.get_running_loop()
    waiting: deque[bytes] = deque()

    def came() -> None:
        with suppress(BlockingIOError):
            while True:
                waiting.append(os.read(tun, LARGEST_PACKET))
                loop.call_later(seconds, go)

    def go() -> None:
        with suppress(OSError):  # the device refuses a packet: it is lost, as packets may be
            os.write(tun, waiting.popleft())

    loop.add_reader(tun, came)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], float(sys.argv[2])))
