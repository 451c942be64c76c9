"""Become the server, but end with the parent: run as `python -I -S _launch.py PARENT COMMAND...`.

A process of its own between fork and exec, because code that runs in a forked copy of a process
with threads (subprocess's preexec_fn) may deadlock. The death signal survives exec.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask the kernel for SIGTERM at the parent's end, then become the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # only where there is a prctl

        # SIGTERM, not SIGKILL: the server then flushes its append-only file.
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != int(parent):
            # The parent ended before the kernel knew.
            sys.exit(0)
    os.execv(command[0], command)  # noqa: S606  # a path that the parent looked up


if __name__ == "__main__":
    main(sys.argv[1:])
