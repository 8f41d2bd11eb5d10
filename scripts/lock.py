"""Resolves pyproject.toml into the hash-checked files in constraints/, which hold no registry's address."""

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
PEERS = ["--group", "peers", "--no-deps"]


def compile_set(output: str, selection: list[str], python: str = "3.11") -> None:
    """Write one locked set; `--universal` makes it right for every machine, and every Python from `python` on."""
    command: list[str | Path] = [UV, "pip", "compile", *selection, *sys.argv[1:]]
    command += ["--universal", "--python-version", python, "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-annotate", "--no-emit-index-url"]
    command += ["--quiet", "--custom-compile-command", "make lock", "--output-file", output]
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"wrote {output}")


def main() -> None:
    """Lock the runtime first and hold the development set to the same versions."""
    compile_set("constraints/runtime.txt", ["pyproject.toml", *RUNTIME])
    compile_set("constraints/dev.txt", ["pyproject.toml", *DEV, "--constraints", "constraints/runtime.txt"])
    compile_set("constraints/peers.txt", PEERS, python="3.12")


if __name__ == "__main__":
    main()
