"""Resolves pyproject.toml into the two hash-checked files in constraints/, which hold no registry's address."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"
RUNTIME = [
    *("--extra", "edge"),
    *("--extra", "cloud"),
    *("--extra", "sim"),
    *("--group", "build"),
    *("--group", "console"),
]
DEV = [*RUNTIME, "--group", "dev"]


def compile_set(output: str, selection: list[str], more: list[str]) -> None:
    """Write one locked set; `--universal` makes it right for every Python and machine that pyproject.toml allows."""
    command: list[str | Path] = [UV, "pip", "compile", "pyproject.toml", *selection, *more]
    command += ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-annotate", "--no-emit-index-url"]
    command += ["--quiet", "--custom-compile-command", "make lock", "--output-file", output]
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"wrote {output}")


def main() -> None:
    """Lock the runtime first and hold the development set to the same versions."""
    compile_set("constraints/runtime.txt", RUNTIME, sys.argv[1:])
    compile_set("constraints/dev.txt", DEV, [*sys.argv[1:], "--constraints", "constraints/runtime.txt"])


if __name__ == "__main__":
    main()
