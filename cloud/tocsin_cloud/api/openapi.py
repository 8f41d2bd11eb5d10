"""The checked-in description of the interface: `python -m tocsin_cloud.api.openapi docs/api/openapi.json`."""

import json
import sys
from pathlib import Path

from tocsin_cloud.api.build import Interface


def description() -> str:
    """Return the OpenAPI document of the interface as JSON text, the same for the same code."""
    return json.dumps(Interface().openapi(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the description to the file named in `arguments`; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tocsin_cloud.api.openapi FILE\n")
        return 2
    file = Path(arguments[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(description(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
