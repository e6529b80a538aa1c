"""How much the receiver takes: `python -m bench.receiver_rate`; it must not be what a burst is measured by.

A sender that only writes prepared requests, many of them before it reads an answer, has the other core. Kept in
bench/results/: requests a second, in rounds.
"""

import json
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from statistics import median

from bench.pipeline import event_line, keep, machine
from bench.stack import free_port

REQUESTS = 100_000
IN_FLIGHT = 100
ROUNDS = 5
START_SECONDS = 10.0


def connected(port: int) -> socket.socket:
    """A connection, as soon as the receiver listens."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def rate(connection: socket.socket, request: bytes, answer_size: int) -> float:
    """Requests a second."""
    together = request * IN_FLIGHT
    began = time.perf_counter()
    for _ in range(REQUESTS // IN_FLIGHT):
        connection.sendall(together)
        missing = IN_FLIGHT * answer_size
        while missing:
            missing -= len(connection.recv(missing))
    return REQUESTS / (time.perf_counter() - began)


def main() -> None:
    """Measure and keep the figures."""
    before, port = machine(), free_port()
    receiver = subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port)])
    try:
        with connected(port) as connection:
            body = json.dumps(event_line()).encode()
            request = b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            connection.sendall(request)
            answer_size = len(connection.recv(4096))
            rates = [round(rate(connection, request, answer_size)) for _ in range(ROUNDS)]
        counts = HTTPConnection("127.0.0.1", port)
        counts.request("GET", "/count")
        received = json.loads(counts.getresponse().read())
    finally:
        receiver.terminate()
        receiver.wait()
    if received != ROUNDS * REQUESTS + 1:
        raise RuntimeError(f"{received} of {ROUNDS * REQUESTS + 1} requests were counted")
    keep("receiver", {"per_second": rates, "per_second_median": median(rates)}, before)


if __name__ == "__main__":
    main()
