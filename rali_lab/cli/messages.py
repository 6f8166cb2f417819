"""How commands complain."""

from __future__ import annotations

import sys


class CommandError(Exception):
    """Ends the command with exit code 2 and its message as one line."""


def complain(message: object) -> None:
    """One line on stderr, however many the message had."""
    print("rali-lab:", " ".join(str(message).split("\n")), file=sys.stderr, flush=True)
