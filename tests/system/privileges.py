"""Which Python child processes run, and as whom: never root."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Launcher:
    """How to start a Python that imports tailbox."""

    python: str
    environment: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)  # for subprocess: user, group, extra_groups
    why_privileged: str = ""  # not empty: nothing else was possible

    def give(self, path: Path) -> None:
        """Make a directory the child's own."""
        if self.identity:
            os.chown(path, NOBODY, NOBODY)


@cache
def launcher() -> Launcher:
    """This Python as we are, unless we are root: then as `nobody`, or, if its files are out of reach for others, the
    system's Python of the same version with this environment's packages."""
    if os.geteuid() != 0:
        return Launcher(sys.executable)
    dropped = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    packages = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [
        Launcher(sys.executable, identity=dropped),
        Launcher(f"/usr/bin/python{version}", {"PYTHONPATH": packages, "PYTHONNOUSERSITE": "1"}, dropped),
    ]
    for candidate in candidates:
        if _works(candidate):
            return candidate
    return Launcher(sys.executable, why_privileged="nobody can read neither this Python nor its packages")


def _works(candidate: Launcher) -> bool:
    try:
        done = subprocess.run(
            [candidate.python, "-c", "import tailbox.cli.main, tailbox.server, tailbox.node.node"],
            env={"PATH": "/usr/bin:/bin", **candidate.environment},
            cwd="/",
            capture_output=True,
            timeout=30,
            **candidate.identity,
        )
    except OSError:
        return False
    return done.returncode == 0
