"""Binding: four neighbours, taken ports, wrong addresses."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
import zmq

from psm_stream.config import WireSettings
from psm_stream.errors import ConfigError, PortTaken
from psm_stream.wire.ports import open_sockets

AUTO = WireSettings(control_port="auto")


def test_auto_finds_four_neighbours_and_others_the_next_time():
    with closing(open_sockets(AUTO)) as one, closing(open_sockets(AUTO)) as other:
        for ports in (one.ports, other.ports):
            assert (ports.publish, ports.latest, ports.markers) == tuple(ports.control + n for n in (1, 2, 3))
        assert abs(one.ports.control - other.ports.control) > 3


def test_the_types_are_those_of_the_interface():
    with closing(open_sockets(AUTO)) as sockets:
        kinds = [one.type for one in (sockets.control, sockets.publish, sockets.latest, sockets.markers)]
    assert kinds == [zmq.REP, zmq.PUB, zmq.PUB, zmq.PULL]


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_a_taken_port_is_named_with_what_to_do_and_the_others_are_given_back(offset):
    with closing(open_sockets(AUTO)) as sockets:
        first = sockets.ports.control
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", first + offset))
        holder.listen()
        with pytest.raises(PortTaken, match=f"port {first + offset} .*--control-port auto") as caught:
            open_sockets(WireSettings(control_port=first))
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
    with closing(open_sockets(WireSettings(control_port=first))) as sockets:
        assert sockets.ports.control == first


def test_closing_gives_the_ports_back_at_once_and_twice_is_once():
    sockets = open_sockets(AUTO)
    sockets.close()
    sockets.close()
    again = open_sockets(WireSettings(control_port=sockets.ports.control))
    again.close()


@pytest.mark.parametrize("host", ["10.255.255.1", "no-such-host.invalid", "300.1.1.1", ""])
def test_an_address_that_is_not_ours_is_an_error_of_the_config(host):
    with pytest.raises(ConfigError, match=r"wire\.bind") as caught:
        open_sockets(WireSettings(bind=host, control_port="auto"))
    assert caught.value.exit_code == 2


def test_all_addresses_can_be_bound():
    with closing(open_sockets(WireSettings(bind="0.0.0.0", control_port="auto"))) as sockets:
        socket.create_connection(("127.0.0.1", sockets.ports.publish), timeout=5).close()
