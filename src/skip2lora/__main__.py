"""The command ``skip2lora``, also as ``python -m skip2lora``.

Importing NumPy and the rest takes a while, so signals are answered before that.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from skip2lora.system import STOPS


def leave(number: int, _: FrameType | None = None, *, done: str = "nothing was written") -> None:
    """Say in one line what stopped the command, and end the process at once.

    An exception would be lost in modules that take any for a failed import.
    """
    os.write(2, f"skip2lora: stopped by {STOPS[signal.Signals(number)]}, {done}\n".encode())
    os._exit(128 + number)


def main() -> None:
    """Entry point of the console script."""
    for number in STOPS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, leave)
    from skip2lora.cli import run

    code = run()
    for number in STOPS:  # all is done: nothing is left to be stopped
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
