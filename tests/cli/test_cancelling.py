"""No cancellation is lost where it comes together with the answer that is waited for."""

import asyncio
import subprocess
import sys

import pytest

from tocsin_cli.cancelling import keep_cancellations


async def cancelled_as_answered() -> bool:
    """Cancel a task in the same turn of the loop in which its answer arrives; tells whether it ended."""
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(asyncio.wait_for(answer, 60))
    # It waits by now.
    await asyncio.sleep(0)
    answer.set_result("delivered")
    waiting.cancel()
    await asyncio.wait([waiting])
    return waiting.cancelled()


def test_a_cancellation_that_comes_with_the_answer_ends_the_task() -> None:
    """Else a loop that publishes goes on after it was told to end."""
    keep_cancellations()
    assert asyncio.run(cancelled_as_answered())


def test_an_answer_in_time_is_returned_and_a_late_one_is_given_up() -> None:
    """What was waited for is cancelled then, as ever; no time at all is no time."""

    async def story() -> None:
        event = asyncio.Event()
        event.set()
        assert await asyncio.wait_for(event.wait(), 60) is True
        assert await asyncio.wait_for(event.wait(), None) is True
        for timeout_s in (0.001, 0, -1.0):
            never = asyncio.get_running_loop().create_future()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(never, timeout_s)
            assert never.cancelled()

    keep_cancellations()
    asyncio.run(story())


def test_every_verb_has_it() -> None:
    """The command sets it up before any verb runs."""
    program = (
        "import asyncio, contextlib, sys\n"
        "from tests.cli.test_cancelling import cancelled_as_answered\n"
        "from tocsin_cli.main import main\n"
        "sys.argv = ['tocsin', 'check', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "sys.exit(0 if asyncio.run(cancelled_as_answered()) else 3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
