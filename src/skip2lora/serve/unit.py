"""The service under systemd: its unit file, and what it tells systemd while it runs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from skip2lora.errors import ParameterError

#: Seconds in which the service must show that it lives, and of a start or stop.
WATCHDOG_S, START_S = 30, 60

_UNIT = """\
[Unit]
Description=skip2lora: {name} learns where it runs
After=network.target

[Service]
Type=notify
ExecStart={command}
Restart=on-failure
RestartSec=2
WatchdogSec={watchdog}
TimeoutStartSec={start}
TimeoutStopSec={start}
DynamicUser=yes
StateDirectory={folder}
WorkingDirectory=/var/lib/{folder}
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute={no_new_code}
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=setpriority
OOMPolicy=continue
Environment=OMP_NUM_THREADS=1

[Install]
WantedBy=multi-user.target
"""
#: Runtimes that compile code while they run.
_COMPILERS = (".xml", ".pt2")


def unit(name: str, model: Path, words: Sequence[str]) -> str:
    """The unit file of a service of that name, which runs ``skip2lora serve MODEL`` and ``words``.

    Raises:
        ParameterError: a word cannot stand in a unit file.
    """
    command = [sys.executable, "-m", "skip2lora", "serve", str(model.resolve()), *words]
    return _UNIT.format(
        name=_word(name), command=" ".join(map(_quoted, command)), watchdog=WATCHDOG_S,
        start=START_S, folder=f"skip2lora-{_word(name)}",
        no_new_code="no" if model.suffix in _COMPILERS else "yes",
    )  # fmt: skip


def _word(name: str) -> str:
    if not name or not all(each.isascii() and (each.isalnum() or each in "-_.") for each in name):
        raise ParameterError(
            f"the name is {name!r}, expected letters, digits, -, _ and . for a unit: change it"
        )
    return name


def _quoted(word: str) -> str:
    """A word as ``ExecStart=`` reads it: quoted, without specifiers and variables."""
    if not word.isprintable():
        raise ParameterError(
            f"{word!r} has characters that no unit can hold, expected letters: rename it"
        )
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if text != word or not text or set(text) & set(" ';") else text


def notify(state: str) -> bool:
    """Tell systemd, where it started this; whether it did.

    ``state`` is a line such as ``READY=1`` (sd_notify(3)).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # an abstract name
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError:  # systemd will take the service for one that hangs, and say so
        return False
    return True


def watchdog_s() -> float | None:
    """Seconds between signs of life: half of what systemd waits; None where it waits for none."""
    text = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not text.isdecimal() or int(text) == 0 or pid != str(os.getpid()):
        return None
    return int(text) / 2e6
