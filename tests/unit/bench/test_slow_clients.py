import socket
from contextlib import closing

import pytest

from bench.slow_clients import SlowClients


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as found:
        yield found


def test_slow_clients_say_little_and_never_all_of_it(listener):
    with closing(SlowClients(listener.getsockname()[1], 3, "/predict")) as clients:
        accepted = [listener.accept()[0] for _ in range(3)]
        for part in range(10):
            clients.step(part)
        clients.close()
        said = [_all_of(connection) for connection in accepted]
    assert said[0] == b""
    assert said[1].endswith(b"json\r\nX")
    assert said[2].endswith(b"\r\n\r\n ")
    assert clients.cut == 0


def test_slow_clients_that_are_cut_off_come_back(listener):
    with closing(SlowClients(listener.getsockname()[1], 2, "/predict")) as clients:
        for connection in [listener.accept()[0] for _ in range(2)]:
            connection.close()
        while clients.cut < 2:
            clients.step(0)
        for connection in [listener.accept()[0] for _ in range(2)]:
            connection.close()


def _all_of(connection):
    found = b""
    with connection:
        while more := connection.recv(4096):
            found += more
    return found
