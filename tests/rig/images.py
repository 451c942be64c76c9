"""Images made from this machine's own programs: there is no registry to pull from.

The burner is the workload of most tests. It reads its orders from files that every node mounts:
    /switch/NAME        'full': burn CPU up to the limit; a number: so many turns of a loop a cycle
    /switch/NAME.oom    fill the memory as PID 1 until the kernel kills it
"""

from __future__ import annotations

import functools
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from rig.commands import RigError, run

BUSYBOX_IMAGE = "rig/busybox:1"
PYTHON_IMAGE = "rig/python:1"
SYSTEM_PYTHON = Path("/usr/bin/python3")
BURN_CYCLE_SECONDS = 0.5
CALIBRATION_TURNS = 300_000
# Not needed by any test client, and most of the library's size.
UNNEEDED = frozenset(
    {
        "__pycache__",
        "test",
        "idlelib",
        "ensurepip",
        "lib2to3",
        "tkinter",
        "pydoc_data",
        "turtledemo",
    }
)

SPIN = 'spin() { i=0; while [ "$i" -lt "$1" ]; do i=$((i+1)); done; }'
BURNER = f"""
{SPIN}
trap 'exit 0' TERM
while :; do
    if [ -e "/switch/$0.oom" ]; then exec tail /dev/zero; fi
    turns=
    if [ -e "/switch/$0" ]; then read -r turns <"/switch/$0"; fi
    case "$turns" in
        full) spin 20000 ;;
        '') sleep {BURN_CYCLE_SECONDS} & wait $! ;;
        *) sleep {BURN_CYCLE_SECONDS} & spin "$turns"; wait $! ;;
    esac
done
"""


def burner_command(name: str) -> list[str]:
    """Return the command of a burner that obeys the switch with this name."""
    return ["sh", "-c", BURNER, name]


@functools.cache
def turns_per_core_second() -> float:
    """Measure how many turns of the burner's loop one core makes in a second."""
    script = f"{SPIN}; spin {CALIBRATION_TURNS}"
    process = subprocess.Popen(["busybox", "sh", "-c", script])
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return CALIBRATION_TURNS / max(0.001, usage.ru_utime + usage.ru_stime)


def write_busybox_tar(target: Path) -> None:
    """Write a root directory that holds busybox and nothing else."""
    with tarfile.open(target, "w") as archive:
        _add_busybox(archive)


def write_python_tar(target: Path) -> None:
    """Write a root directory with this machine's Debian python and busybox as its shell."""
    interpreter = SYSTEM_PYTHON.resolve()
    library = Path("/usr/lib") / interpreter.name
    if not interpreter.is_file() or not library.is_dir():
        message = f"{SYSTEM_PYTHON}: no system python with its library at {library}"
        raise RigError(message)
    with tarfile.open(target, "w") as archive:
        _add_busybox(archive)
        archive.add(interpreter, interpreter.relative_to("/"))
        for alias in ("usr/bin/python3", "usr/bin/python"):
            _add_link(archive, alias, interpreter.name)
        archive.add(library, library.relative_to("/"), filter=_needed)
        extensions = (library / "lib-dynload").glob("*.so")
        for shared in _shared_libraries([interpreter, *extensions]):
            archive.add(shared.resolve(), shared.relative_to("/"))


def _needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if UNNEEDED & set(Path(member.name).parts) else member


def _shared_libraries(programs: list[Path]) -> list[Path]:
    listing = run("ldd", *map(str, programs))
    return sorted({Path(found) for found in re.findall(r"(/\S+) \(0x", listing)})


def _add_busybox(archive: tarfile.TarFile) -> None:
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        entry = tarfile.TarInfo(directory)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
        archive.addfile(entry)
    _add_text(
        archive, "etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    )
    _add_text(archive, "etc/group", "root:x:0:\nnogroup:x:65534:\n")
    program = Path(run("sh", "-c", "command -v busybox").strip()).resolve()
    archive.add(program, "bin/busybox")
    for applet in run("busybox", "--list").split():
        if applet != "busybox":
            _add_link(archive, f"bin/{applet}", "busybox")


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text), 0o644
    archive.addfile(entry, io.BytesIO(text.encode()))
