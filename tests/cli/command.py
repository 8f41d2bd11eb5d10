"""The command line in a process of its own: started as a user does, or forked where the imports are done.

The imports cost more than most verbs. Arguments, environment, folder, streams and exit code are a forked one's own too;
that a verb imports what it needs and ends as it should, a test or two of it show with one that is really started.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tocsin_cli.main import VERBS, main

TIMEOUT_S: Final = 60.0
# Those that are run often.
OFTEN: Final = ("audit", "check", "learn", "plan", "profile", "replay", "sim", "test-rules", "user")
FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "tocsin_cli.application", *(VERBS[verb].module for verb in OFTEN)])


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the command line with these words, as a user does."""
    command = [sys.executable, "-m", "tocsin_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def tocsin(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with these words in a process that is forked."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=_run, args=(["tocsin", *arguments], dict(os.environ), out, err))
        process.start()
        process.join(TIMEOUT_S)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        told = out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
    if code is None:
        raise subprocess.TimeoutExpired(arguments, TIMEOUT_S, *told)
    return subprocess.CompletedProcess(arguments, code, *told)


def _run(words: list[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """What the new process does."""
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = words
    main()
