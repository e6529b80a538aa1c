"""Each stack gets ports of its own and keeps them; a default gives way, a port that was asked for does not."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.data_directory import StackError
from local.ports import HOST, PortReservations, PortWish, hold, hold_free, read_remembered, remember


def listening(port: int = 0, address: str = HOST) -> socket.socket:
    """As every server here does it."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen()
    return server


def port_of(held: socket.socket) -> int:
    port: int = held.getsockname()[1]
    return port


@pytest.fixture
def free_port() -> int:
    with closing(hold_free()) as held:
        return port_of(held)


@pytest.fixture
def ports() -> Iterator[PortReservations]:
    reservations = PortReservations()
    yield reservations
    reservations.release()


def wish(asked: int | None = None, default: int | None = None) -> PortWish:
    return PortWish("api", "the API", asked, default, "--api-port")


def test_a_held_port_is_nobody_elses_but_its_server_listens_on_it(free_port: int) -> None:
    with closing(hold(free_port) or pytest.fail("not free")):
        assert hold(free_port) is None
        for _ in range(3):  # and comes back to it
            with closing(listening(free_port)), socket.create_connection((HOST, free_port)):
                assert hold(free_port) is None


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_a_port_somebody_listens_on_is_taken(free_port: int, address: str) -> None:
    with closing(listening(free_port, address)):
        assert hold(free_port) is None


def test_connections_that_fade_away_do_not_make_a_port_taken(free_port: int) -> None:
    with closing(listening(free_port)) as server:
        client = socket.create_connection((HOST, free_port))
        server.accept()[0].close()  # the server ends it: its side waits a minute in TIME_WAIT
        client.close()
    with closing(hold(free_port) or pytest.fail("taken")), closing(listening(free_port)):
        pass


def test_a_free_port_is_none_that_outgoing_connections_are_given() -> None:
    with closing(hold_free()) as one, closing(hold_free()) as other:
        assert port_of(one) != port_of(other)
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert max(port_of(one), port_of(other)) < first_ephemeral


def test_a_port_asked_for_is_taken_before_the_one_remembered(ports: PortReservations, free_port: int) -> None:
    assert ports.reserve(wish(asked=free_port), remembered=None) == free_port


def test_a_port_asked_for_that_is_taken_is_an_error_naming_the_option(ports: PortReservations, free_port: int) -> None:
    with closing(listening(free_port)), pytest.raises(StackError, match=rf"{free_port}.*--api-port.*0 takes a free"):
        ports.reserve(wish(asked=free_port), remembered=None)


def test_a_default_that_is_taken_gives_way_and_says_so(ports: PortReservations, free_port: int) -> None:
    with closing(listening(free_port)):
        assert ports.reserve(wish(default=free_port), remembered=None) != free_port
    assert len(ports.notes) == 1
    assert str(free_port) in ports.notes[0]


def test_a_default_that_is_free_is_used(ports: PortReservations, free_port: int) -> None:
    assert ports.reserve(wish(default=free_port), remembered=None) == free_port
    assert not ports.notes


@pytest.mark.parametrize("asked", [None, 0], ids=["nothing asked", "a free one asked"])
def test_a_later_start_prefers_the_port_of_the_last(ports: PortReservations, free_port: int, asked: int | None) -> None:
    assert ports.reserve(wish(asked=asked, default=8080), remembered=free_port) == free_port


def test_a_remembered_port_that_is_taken_gives_way_to_the_default(ports: PortReservations, free_port: int) -> None:
    with closing(hold_free()) as other, closing(listening(free_port)):
        default = port_of(other)
        other.close()
        assert ports.reserve(wish(default=default), remembered=free_port) == default


def test_zero_is_a_free_port_and_not_the_default(ports: PortReservations, free_port: int) -> None:
    assert ports.reserve(wish(asked=0, default=free_port), remembered=None) != free_port


def test_released_ports_are_free_again(ports: PortReservations) -> None:
    port = ports.reserve(wish(asked=0), remembered=None)
    ports.release()
    with closing(hold(port) or pytest.fail("taken")):
        pass


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"api": "8080", "ui": 0, "temporal": 70000, "postgres": null}'],
    ids=["empty", "a list", "null", "no ports"],
)
def test_a_damaged_file_of_ports_is_no_more_than_a_lost_preference(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(text)
    assert read_remembered(path) == {}


def test_what_is_remembered_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert read_remembered(path) == {}
    remember(path, {"api": 8080})
    assert read_remembered(path) == {"api": 8080}
