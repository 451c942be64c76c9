"""`autoheal` and `python -m autoheal`: the command line, which Ctrl-C ends cleanly at any moment.

A KeyboardInterrupt that strikes in an import may come out as an ImportError (with numpy it does),
or leaves a half-written file in a cache; in a finaliser it is lost. So an interrupt waits until no
module is being loaded, and comes again where it could not be raised. And only the first counts:
people press Ctrl-C more than once, and what cleans up must not be stopped.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

INTERRUPTED = 130
AGAIN_S = 0.002
_IMPORTING = "<frozen importlib._bootstrap>"


def main() -> None:
    """Run the command line; after Ctrl-C the exit code is 130."""
    try:
        try:
            _heed_interrupts()
            from autoheal.cli import main as run_command  # noqa: PLC0415  # interrupts are heeded

            run_command()
        finally:
            # Python's own end knows no interrupt that can be caught.
            signal.setitimer(signal.ITIMER_REAL, 0)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _heed_interrupts() -> None:
    # Whoever started us may have interrupts ignored, as a script does for `autoheal run &`.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGALRM, _interrupt_again)
        sys.unraisablehook = _unraisable


def _interrupt(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        frame = frame.f_back
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _interrupt_again(_number: int, _frame: FrameType | None) -> None:
    # To whoever handles interrupts by now: a command may have taken that over.
    signal.raise_signal(signal.SIGINT)


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    if isinstance(told.exc_value, KeyboardInterrupt):
        signal.signal(signal.SIGINT, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(told)


if __name__ == "__main__":
    main()
