"""A serial port of this machine, set as the plant file says, held by nobody else, read without waiting."""

import asyncio
import errno
import fcntl
import os
import termios
from typing import Final

from tocsin_core.plant.connection import Serial
from tocsin_edge.adapters.modbus_link import Inbox

READ_AT_ONCE: Final = 4096
SPEEDS: Final = {
    1200: termios.B1200,
    2400: termios.B2400,
    4800: termios.B4800,
    9600: termios.B9600,
    19200: termios.B19200,
    38400: termios.B38400,
    57600: termios.B57600,
    115200: termios.B115200,
}
PARITIES: Final = {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}


class SerialLink:
    """A serial port, raw: 8 data bits, no flow control."""

    def __init__(self, settings: Serial) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._fd: int | None = None
        self.inbox = Inbox()

    @property
    def is_open(self) -> bool:
        """Whether it can be written to, as far as is known."""
        return self._fd is not None and not self.inbox.gone

    async def open(self) -> None:
        """Open and set the port; what it had received before is thrown away.

        Raises:
            OSError: there is no such port, it is not a serial one, or another program holds it.
        """
        self.close()
        self.inbox = Inbox()
        fd = os.open(self._settings.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._set(fd)
        except BlockingIOError as error:
            os.close(fd)
            raise OSError(errno.EBUSY, "another program holds the port", self._settings.port) from error
        except termios.error as error:
            os.close(fd)
            raise OSError(errno.ENOTTY, "not a serial port", self._settings.port) from error
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _set(self, fd: int) -> None:
        """Set speed and form of the characters; nothing is translated, echoed or waited for."""
        attributes = termios.tcgetattr(fd)
        control = termios.CS8 | termios.CREAD | termios.CLOCAL | PARITIES[self._settings.parity]
        if self._settings.stop_bits > 1:
            control |= termios.CSTOPB
        speed = SPEEDS[self._settings.baud]
        characters: list[bytes | int] = attributes[6]
        characters[termios.VMIN], characters[termios.VTIME] = 0, 0
        checked = 0 if self._settings.parity == "none" else termios.INPCK
        attributes = [checked, 0, control, 0, speed, speed, characters]
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
        termios.tcflush(fd, termios.TCIOFLUSH)

    def _read(self) -> None:
        if self._fd is None:
            return
        try:
            data = os.read(self._fd, READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if data:
            self.inbox.put(data)
        else:
            self._lose("the port is gone")

    def _lose(self, reason: str) -> None:
        """Stop listening: a port that is gone is readable for ever."""
        self.inbox.end(reason)
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)

    def write(self, data: bytes) -> None:
        """Send `data`, a frame at most, which any port's buffer holds.

        Raises:
            OSError: the port is gone, or takes nothing.
        """
        if self._fd is None or self.inbox.gone:
            raise OSError(errno.ENODEV, self.inbox.gone or "not open")
        written = os.write(self._fd, data)
        if written != len(data):
            raise OSError(errno.EIO, f"took {written} of {len(data)} bytes")

    def close(self) -> None:
        """Give the port back."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
