"""A Modbus TCP connection, shared by the units behind it: one question at a time, and no answer but its own."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from tocsin_core.clock import Clock
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, BAD_DEVICE_FAILURE
from tocsin_core.registers import ReadRequest, Reply

RECONNECT_FIRST_S: Final = 0.25
RECONNECT_MOST_S: Final = 5.0
# For so long after the start a device that was never reached is waited for without growing rarer.
STARTING_S: Final = 10.0
# The library's own patience; ours ends every exchange long before.
LIBRARY_TIMEOUT_S: Final = 60.0

# MODBUS Application Protocol 1.1b3, section 7.
EXCEPTIONS: Final[dict[int, tuple[int, str]]] = {
    1: (BAD_CONFIGURATION, "illegal function"),
    2: (BAD_CONFIGURATION, "illegal data address"),
    3: (BAD_CONFIGURATION, "illegal data value"),
    4: (BAD_DEVICE_FAILURE, "server device failure"),
    5: (BAD_COMM_FAILURE, "acknowledge, still busy"),
    6: (BAD_COMM_FAILURE, "server device busy"),
    8: (BAD_DEVICE_FAILURE, "memory parity error"),
    10: (BAD_COMM_FAILURE, "gateway path unavailable"),
    11: (BAD_COMM_FAILURE, "gateway target failed to respond"),
}
TARGET_SILENT: Final = frozenset({10, 11})

_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: registers, bits, or a quality byte with its reason; `silent` if nobody answered at all."""

    reply: Reply
    reason: str = ""
    silent: bool = False


class ModbusLine:
    """One TCP connection to (host, port). It is opened when needed, and closed after every exchange that failed.

    Closing is what keeps a late answer away from the next question even with servers that do not echo the transaction
    number. After a failed connect nobody tries again until a random wait (full jitter, doubling to 5 s) is over; it
    does not grow in the first 10 s, in which the other end may still be starting.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        """Open nothing yet."""
        self._client = AsyncModbusTcpClient(
            host, port=port, timeout=LIBRARY_TIMEOUT_S, retries=0, reconnect_delay=0, name=f"{host}:{port}"
        )
        self._clock = clock
        self._starting_until = clock.monotonic() + STARTING_S
        self._lock = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self._reason = ""

    async def ask(self, unit: int, request: ReadRequest, timeout_s: float) -> Answer:
        """Ask `unit` once; `timeout_s` runs from when the line is free, and includes connecting."""
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    if not await self._connected():
                        return Answer(BAD_COMM_FAILURE, self._reason, silent=True)
                    response = await self._read(request)(request.address, count=request.count, device_id=unit)
            except TimeoutError:
                if not self._client.connected:
                    self._note_failed_connect("connect timed out")
                self._client.close()
                return Answer(BAD_COMM_FAILURE, f"no answer within {timeout_s:g} s", silent=True)
            except (ModbusException, OSError) as error:
                self._client.close()
                return Answer(BAD_COMM_FAILURE, str(error), silent=True)
        return _answer(request, response)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._client.close()

    def _read(self, request: ReadRequest) -> Callable[..., Awaitable[ModbusPDU]]:
        client = self._client
        return {
            1: client.read_coils,
            2: client.read_discrete_inputs,
            3: client.read_holding_registers,
            4: client.read_input_registers,
        }[request.function]

    async def _connected(self) -> bool:
        if self._client.connected:
            return True
        if self._clock.monotonic() < self._not_before:
            return False
        if await self._client.connect():
            self._failures = 0
            self._not_before = self._starting_until = 0.0
            return True
        self._note_failed_connect("connection refused or host unreachable")
        return False

    def _note_failed_connect(self, reason: str) -> None:
        self._reason = reason
        longest = min(RECONNECT_MOST_S, RECONNECT_FIRST_S * 2.0**self._failures)
        now = self._clock.monotonic()
        if now >= self._starting_until:
            self._failures = min(self._failures + 1, 16)
        self._not_before = now + _random.uniform(0.0, longest)


def _answer(request: ReadRequest, response: ModbusPDU) -> Answer:
    if response.isError():
        code = int(response.exception_code)
        quality, words = EXCEPTIONS.get(code, (BAD_DEVICE_FAILURE, "unknown exception"))
        return Answer(quality, f"exception {code}: {words}", silent=code in TARGET_SILENT)
    if response.function_code != request.function:
        return Answer(BAD_DEVICE_FAILURE, f"answered function {response.function_code} to {request.function}")
    if request.function in (1, 2):
        return Answer(np.array(response.bits, dtype=np.bool_))
    return Answer(np.array(response.registers, dtype=np.uint16))
