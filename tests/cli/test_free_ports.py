"""The ports that tests give to their servers: nobody is given one that another is yet to listen on."""

import socket

from tests.support.ports import free_port


def test_a_port_is_given_once_although_nobody_listens_on_it_yet() -> None:
    """Processes take seconds until they listen, and more of them are started meanwhile."""
    assert len({free_port() for _ in range(500)}) == 500


def test_no_connection_and_no_other_server_takes_it_meanwhile() -> None:
    """What the kernel gives to others by itself is never among them."""
    given = {free_port() for _ in range(500)}
    for _ in range(500):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] not in given
