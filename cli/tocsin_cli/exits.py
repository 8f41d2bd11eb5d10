"""With which codes the command line ends where it did not do what it was asked."""

from typing import Final

USAGE_EXIT: Final = 2
INTERRUPTED_EXIT: Final = 130
