"""A Modbus line: no answer but its own, one silent unit costs its own slot, failures have a reason."""

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from threading import Event
from typing import Any, Literal

import numpy as np
import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.edge.rig import Slave
from tests.edge.send_rig import DeafLink
from tests.support.modbus_units import TcpUnits, Unit
from tests.support.ports import free_port
from tocsin_core.clock import SystemClock
from tocsin_core.plant.connection import Modbus
from tocsin_core.polling import Question, Search, rtu_search
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, BAD_DEVICE_FAILURE
from tocsin_core.registers import ReadRequest
from tocsin_edge.adapters.modbus import IDLE_S, RECONNECT_FIRST_S, Answer, ModbusLine

TWO: ReadRequest = ReadRequest(3, 0, 2)


def value_of(answer: Answer) -> float:
    """Read the big-endian float in an answer of two registers."""
    assert isinstance(answer.reply, np.ndarray), answer
    return float(np.array(answer.reply, dtype=">u2").view(">f4")[0])


def line_to(port: int, framing: Literal["tcp", "rtu"] = "tcp") -> ModbusLine:
    """Make a line to a port of this machine."""
    return ModbusLine(Modbus(host="127.0.0.1", port=port, framing=framing), SystemClock(), lambda: 0.5)


class HandClock:
    """A clock that the test moves."""

    seconds = 0.0

    def now_ns(self) -> int:
        """UTC."""
        return SystemClock().now_ns()

    def monotonic(self) -> float:
        """Seconds since anywhere."""
        return self.seconds


class HurriedClock(SystemClock):
    """The system's clock, and what the test puts before it."""

    seconds = 0.0

    def monotonic(self) -> float:
        """Seconds since anywhere."""
        return super().monotonic() + self.seconds


def told(story: Coroutine[Any, Any, None]) -> None:
    """Run a story."""
    asyncio.run(story)


@pytest.mark.parametrize("echo_transaction", [True, False])
def test_a_late_answer_never_serves_the_next_question(echo_transaction: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """An answer that comes after its time-out is lost, even from a server that does not echo transaction numbers."""

    async def story() -> None:
        async with Slave({1: 0.0}, late_s={1: 0.15}, echo_transaction=echo_transaction).serve() as slave:
            line = line_to(slave.port)
            for value in (10.0, 20.0, 30.0):
                slave.value[1] = value
                late = await line.ask(1, TWO, 0.1)
                assert late == Answer(BAD_COMM_FAILURE, "no answer", silent=True)
                # The answer to the first question arrives while this one waits for its own.
                slave.value[1] = value + 1
                assert value_of(await line.ask(1, TWO, 1.0)) == value + 1
            line.close()

    told(story())


@pytest.mark.parametrize(
    ("code", "quality", "silent"),
    [
        (1, BAD_CONFIGURATION, False),
        (2, BAD_CONFIGURATION, False),
        (3, BAD_CONFIGURATION, False),
        (4, BAD_DEVICE_FAILURE, False),
        (5, BAD_COMM_FAILURE, False),
        (6, BAD_COMM_FAILURE, False),
        (8, BAD_DEVICE_FAILURE, False),
        (10, BAD_COMM_FAILURE, True),
        (11, BAD_COMM_FAILURE, True),
        (99, BAD_DEVICE_FAILURE, False),
    ],
)
def test_exceptions_are_qualities_with_a_reason(code: int, quality: int, silent: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A device that answers with an exception is alive, unless a serial gateway says that nobody is behind it."""

    async def story() -> None:
        async with Slave({1: 1.0}, exception={1: code}).serve() as slave:
            line = line_to(slave.port)
            answer = await line.ask(1, TWO, 1.0)
            line.close()
            assert (answer.reply, answer.silent) == (quality, silent)
            assert answer.reason.startswith(f"exception {code}:")

    told(story())


def test_nobody_there_is_told_at_once_and_not_hammered() -> None:
    """A refused connection fails at once; until a wait is over nobody connects; then a device that came is read."""

    async def story() -> None:
        clock, server = HandClock(), TcpUnits({1: Unit({0: 1, 1: 2})})
        server.port = free_port()
        line = ModbusLine(Modbus(host="127.0.0.1", port=server.port), clock, lambda: 0.5)
        answers = []
        for tries in (1, 2, 3):
            answers += [await line.ask(1, TWO, 60.0) for _ in range(50)]
            assert line.counts["failed connects"] == tries
            # Half of the bound, as it is drawn here; it does not grow while the other end may still be starting.
            clock.seconds += RECONNECT_FIRST_S / 2
        assert {answer.reply for answer in answers if isinstance(answer.reply, int)} == {BAD_COMM_FAILURE}
        assert {answer.reason for answer in answers} == {"no connection: refused"}
        assert all(answer.silent for answer in answers)
        async with server:
            assert np.asarray((await line.ask(1, TWO, 60.0)).reply).tolist() == [1, 2]
            line.close()

    told(story())


def test_a_connection_that_is_made_anew_for_a_doubt_was_never_unreachable() -> None:
    """Nobody on it has come back with it; a converter that cannot be reached takes all of its units with it."""

    async def story() -> None:
        async with TcpUnits({}) as server:
            line = line_to(server.port)
            for unit in (1, 2, 3):
                await line.ask(unit, TWO, 0.05)
            assert (line.up, line.unreachable) == (False, False)
            line.close()
        await line.ask(1, TWO, 0.5)
        assert (line.up, line.unreachable) == (False, True)
        line.close()

    told(story())


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_a_connection_that_was_forgotten_while_it_was_idle_costs_one_question(framing: Literal["tcp", "rtu"]) -> None:
    """A firewall on the way says nothing of it. One that is used all the time is doubted after three."""

    async def story() -> None:
        async with (
            TcpUnits({1: Unit({0: 1, 1: 2})}, rtu=framing == "rtu") as server,
            DeafLink(server.port).open() as link,
        ):
            clock = HurriedClock()
            line = ModbusLine(Modbus(host="127.0.0.1", port=link.port, framing=framing), clock, lambda: 0.5)
            for idle_s, unheard in ((IDLE_S + 1, 1), (IDLE_S - 1, 3)):
                # Since it was used last, however long ago it was made.
                clock.seconds += IDLE_S - 1
                assert np.asarray((await line.ask(1, TWO, 60.0)).reply).tolist() == [1, 2]
                link.turn_deaf()
                clock.seconds += idle_s
                for _ in range(unheard):
                    assert line.up
                    assert (await line.ask(1, TWO, 0.05)).reason == "no answer"
                assert not line.up
                while (answer := await line.ask(1, TWO, 60.0)).again:
                    pass
                assert np.asarray(answer.reply).tolist() == [1, 2]
            line.close()

    told(story())


def test_a_name_server_that_does_not_answer_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often devices by name are asked, one thread each waits for it; who needs one of the loop's has it."""
    known, asked, real = Event(), list[str](), socket.getaddrinfo

    def slow(host: str, *more: int | None, **named: int) -> list[object]:
        asked.append(host)
        known.wait(60.0)
        return [*real("127.0.0.1", *more, **named)]  # type: ignore[arg-type]

    async def story() -> None:
        async with TcpUnits({1: Unit({0: 1, 1: 2})}) as server:
            clocks = [HandClock() for _ in range(40)]
            lines = [
                ModbusLine(Modbus(host=f"d{at}.plant", port=server.port), clock, lambda: 0.5)
                for at, clock in enumerate(clocks)
            ]
            for _ in range(3):
                answers = await asyncio.gather(*(line.ask(1, TWO, 0.05) for line in lines))
                assert {answer.reason for answer in answers} == {"no connection: connect timed out"}
                for clock in clocks:
                    clock.seconds += 10.0
            assert sorted(asked) == sorted(f"d{at}.plant" for at in range(40))
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5.0) == 1
            known.set()
            for answer in await asyncio.gather(*(line.ask(1, TWO, 60.0) for line in lines)):
                assert np.asarray(answer.reply).tolist() == [1, 2]
            for line in lines:
                line.close()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        told(story())
    finally:
        known.set()


@pytest.mark.parametrize(("framing", "framer"), [("tcp", FramerType.SOCKET), ("rtu", FramerType.RTU)])
def test_all_four_functions_against_a_real_server(framing: Literal["tcp", "rtu"], framer: FramerType) -> None:
    """Coils, discrete inputs, holding and input registers of a pymodbus server, and its refusal, in both framings."""

    async def story() -> None:
        port = free_port()
        device = SimDevice(
            1,
            (
                [SimData(0, values=[True, False, True], datatype=DataType.BITS)],
                [SimData(0, values=[False, True, True], datatype=DataType.BITS)],
                [SimData(0, values=[11, 12, 13], datatype=DataType.REGISTERS)],
                [SimData(0, values=[21, 22, 23], datatype=DataType.REGISTERS)],
            ),
        )
        server = ModbusTcpServer(device, framer=framer, address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        line = line_to(port, framing)
        got = [(await line.ask(1, ReadRequest(function, 0, 3), 1.0)).reply for function in (1, 2, 3, 4)]
        refused = await line.ask(1, ReadRequest(3, 2, 2), 1.0)
        line.close()
        await server.shutdown()  # type: ignore[no-untyped-call]  # so in pymodbus
        assert [list(np.asarray(reply)[:3]) for reply in got] == [
            [True, False, True],
            [False, True, True],
            [11, 12, 13],
            [21, 22, 23],
        ]
        assert (refused.exception, refused.reply, refused.silent) == (2, BAD_CONFIGURATION, False)

    told(story())


def test_an_answer_that_came_while_this_process_stood_still_is_taken() -> None:
    """On a machine that is busy with something else an answer in time and the deadline may be found at once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(12)
        writer.write(question[:4] + b"\x00\x07" + question[6:8] + struct.pack(">Bf", 4, 1.5))
        # Nothing of this process goes on until the deadline is over.
        Event().wait(0.4)
        writer.close()

    async def story() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            line = line_to(server.sockets[0].getsockname()[1])
            found = await line.ask(1, TWO, 0.2)
            assert value_of(found) == 1.5
            # It is no younger than the end of the time in which it had to come.
            assert found.ended_ns - found.begun_ns <= 200_000_000
            assert not line.counts["unanswered"]
            line.close()

    told(story())


def test_a_unit_that_never_stops_talking_is_heard_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of bytes that are no answer ends the exchange, and is not searched byte by byte for ever."""
    searched: list[int] = []

    def counted(question: Question, received: bytes) -> Search:
        searched.append(len(received))
        return rtu_search(question, received)

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(range(256)))
                await writer.drain()
                await asyncio.sleep(0)

    async def story() -> None:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        line = line_to(server.sockets[0].getsockname()[1], "rtu")
        begun = asyncio.get_running_loop().time()
        answer = await line.ask(1, TWO, 0.5)
        assert asyncio.get_running_loop().time() - begun < 5
        assert answer.silent
        line.close()
        server.close()

    monkeypatch.setattr("tocsin_edge.adapters.modbus.rtu_search", counted)
    told(story())
    assert 0 < sum(searched) < 200_000
