"""The control desk: what it answers on the spot, what it passes on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import psm_stream
from psm_stream.values import Marker
from psm_stream.wire.control import ORDERS, UNKNOWN, About, Desk, Order
from psm_stream.wire.ports import Ports
from psm_stream.wire.schema import as_dict

SESSION = "a" * 32


class Main:
    """Stands for the main thread: keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Marker | Order] = []
        self.desk = Desk(
            Ports(50120, 50121, 50122, 50123),
            About(SESSION, 1000.0),
            self.got.append,
            lambda: {"model_id": "0123456789ab", "fps": float("nan")},
            lambda: 12.25,
        )

    def ask(self, command: str) -> str | Order:
        return self.desk.handle([command.encode()], 12.0)


@pytest.fixture
def main() -> Main:
    return Main()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("t", "12.25"),
        ("v", psm_stream.__version__),
        ("PUB_PORT", "50121"),
        ("SUB_PORT", "50121"),
        ("LATEST_PORT", "50122"),
        ("MARKER_PORT", "50123"),
        (" t \n", "12.25"),
        ("T", UNKNOWN),
        ("", UNKNOWN),
        ("freeze", UNKNOWN),
        ("tt", UNKNOWN),
        ("t now", "ERROR t takes no argument"),
        ("QUIT now", "ERROR QUIT takes no argument"),
    ],
)
def test_answers_on_the_spot(main, command, answer):
    assert main.ask(command) == answer
    assert main.got == []


def test_info_says_who_when_and_where(main):
    assert json.loads(main.ask("INFO")) == {
        "schema": 1,
        "version": psm_stream.__version__,
        "session": SESSION,
        "header": "msgpack",
        "t": 12.25,
        "unix": 1012.25,
        "unix_minus_monotonic": 1000.0,
        "ports": {"control": 50120, "publish": 50121, "latest": 50122, "markers": 50123},
        "model_id": "0123456789ab",
        "fps": None,
    }


def test_status_is_the_state_and_the_time(main):
    assert json.loads(main.ask("STATUS")) == {"t": 12.25, "model_id": "0123456789ab", "fps": None}


def test_schema_is_the_table(main):
    assert json.loads(main.ask("SCHEMA")) == json.loads(json.dumps(as_dict()))


def test_a_marker_is_stamped_on_arrival(main):
    assert main.ask("A  Ton 4 äöü ") == "OK 12.0"
    assert main.got == [Marker("Ton 4 äöü", 12.0, "control")]


@pytest.mark.parametrize("command", ["A", "A  ", "A " + "x" * 1025])
def test_a_marker_without_a_usable_label_is_an_error(main, command):
    assert main.ask(command).startswith("ERROR the label is ")
    assert main.got == []


@pytest.mark.parametrize("command", ORDERS)
def test_orders_go_to_the_main_thread(main, command):
    order = main.ask(command)
    assert main.got == [order]
    assert (order.command, order.argument, order.t) == (command, "", 12.0)


def test_a_recording_may_have_a_name(main):
    assert main.ask("R my session").argument == "my session"
    assert main.ask("R " + "x" * 2000).startswith("ERROR")


def test_every_command_of_the_interface_is_known(main):
    promised = "t R r v PUB_PORT SUB_PORT LATEST_PORT C c A STATUS INFO SCHEMA FREEZE THAW REVERT QUIT"
    assert [command for command in promised.split() if main.ask(command) == UNKNOWN] == []


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_get_an_answer(parts):
    answer = Main().desk.handle(parts, 12.0)
    assert isinstance(answer, str | Order)
    if len(parts) != 1:
        assert answer == "ERROR a command is one part of UTF-8 text"
