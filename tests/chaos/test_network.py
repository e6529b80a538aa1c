"""Each fault of the network does what its name says, to whom it is meant, in real network namespaces.

Needs root, as `make chaos ARGS=--partitions` does. The test runs this module in namespaces of its own.
"""

import asyncio
import os
import subprocess
import sys
import time
from subprocess import DEVNULL, PIPE

import pytest

from local.processes import launch
from tests.chaos.isolation import unshared
from tests.chaos.network import DELAY_SECONDS, LOOPBACK, Network, Place
from tests.house import ROOT

PORT = 7000
DATAGRAMS = 150
PROBE_SECONDS = 1.0
READY_SECONDS = 10.0

SERVER = f"""
import socket, threading
came = 0
def echo(connection):
    while data := connection.recv(100):
        connection.sendall(str(came).encode() if data == b"how many" else data)
def answer():
    global came
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("", {PORT}))
        while True:
            datagram, sender = datagrams.recvfrom(100)
            came += 1
            datagrams.sendto(datagram, sender)
threading.Thread(target=answer, daemon=True).start()
listener = socket.create_server(("", {PORT}))
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""

CLIENT = f"""
import socket, sys
try:
    connection = socket.create_connection((sys.argv[1], {PORT}), timeout={PROBE_SECONDS})
    connection.sendall(b"a")
    connection.recv(100)
    print("answered", flush=True)
    if len(sys.argv) > 2:
        connection.settimeout(60)
        connection.recv(100)
except OSError as error:
    print(type(error).__name__)
"""

COUNTER = f"""
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
    for _ in range({DATAGRAMS}):
        datagrams.sendto(b"a", (sys.argv[1], {PORT}))
    came, _ = 0, datagrams.settimeout(1)
    try:
        while datagrams.recv(100):
            came += 1
    except TimeoutError:
        print(came)
"""


ARRIVED = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {PORT})) as connection:
    connection.sendall(b"how many")
    print(connection.recv(100).decode())
"""


@pytest.mark.usefixtures("programs")
@pytest.mark.namespaces
def test_cuts_losses_delays_and_resets_meet_whom_they_are_meant_for() -> None:
    command = unshared("tests.chaos.test_network", [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def ask(place: Place, address: str, script: str = CLIENT) -> str:
    """What a client at that place says of the server at that address."""
    command = (*place.enter, sys.executable, "-I", "-S", "-c", script, address)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    said, _ = await process.communicate()
    return said.decode().strip()


async def examine() -> None:
    """Disturb the way between two processes, and look who is met."""
    async with Network() as network:
        one, other, third = [await network.join(name) for name in ("one", "other", "third")]
        launch((*other.enter, sys.executable, "-I", "-S", "-c", SERVER), os.environ, directory=ROOT, output=DEVNULL)
        deadline = time.monotonic() + READY_SECONDS
        while await ask(LOOPBACK, other.address) != "answered":
            assert time.monotonic() < deadline, "the server does not answer"

        began = time.monotonic()
        assert await ask(one, other.address) == "answered"
        undisturbed_seconds = time.monotonic() - began
        for kind in ("cut", "cut outgoing", "cut incoming"):
            async with network.disturbed(kind, "one", "other"):
                said = await asyncio.gather(*(ask(place, other.address) for place in (one, third, LOOPBACK)))
            assert said == ["TimeoutError", "answered", "answered"], kind
        for kind, arrive in (("cut", 0), ("cut outgoing", 0), ("cut incoming", DATAGRAMS)):
            before = int(await ask(LOOPBACK, other.address, ARRIVED))
            async with network.disturbed(kind, "one", "other"):
                assert await ask(one, other.address, COUNTER) == "0"
            assert int(await ask(LOOPBACK, other.address, ARRIVED)) - before == arrive, kind
        async with network.disturbed("cut", "other"):
            said = await asyncio.gather(*(ask(place, other.address) for place in (one, third, LOOPBACK)))
        assert said == ["TimeoutError", "TimeoutError", "answered"]

        async with network.disturbed("loss", "one", "other"):
            assert DATAGRAMS * 0.3 < int(await ask(one, other.address, COUNTER)) < DATAGRAMS * 0.7, "0.7 of 0.7"
        assert int(await ask(one, other.address, COUNTER)) == DATAGRAMS

        async with network.disturbed("delay", "one", "other"):
            began = time.monotonic()
            assert await ask(one, other.address) == "answered"
            assert time.monotonic() - began > undisturbed_seconds + 3.5 * DELAY_SECONDS, "there and back, twice"
            began = time.monotonic()
            assert await ask(third, other.address) == "answered"
            assert time.monotonic() - began < 3.5 * DELAY_SECONDS

        for peer in ("other", None):
            command = (*one.enter, sys.executable, "-I", "-S", "-c", CLIENT, other.address, "stay")
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"answered\n"
            assert await network.reset("one", peer) == 1
            assert b"Connection" in await process.stdout.readline()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(examine())
