"""Where the console's files are: in the wheel (`tailbox/coord/console/`), or built in a checkout (`web/dist/`)."""

from __future__ import annotations

from pathlib import Path

PACKAGED = Path(__file__).resolve().parent.parent / "console"
CHECKOUT = Path(__file__).resolve().parents[3] / "web" / "dist"
ICON_FILE = "favicon.svg"


def find_bundle() -> Path | None:
    """The directory with the built console, if there is one."""
    return next((path for path in (PACKAGED, CHECKOUT) if (path / "index.html").is_file()), None)


def icon_path() -> str | None:
    """The URL path of the icon, if it is served."""
    directory = find_bundle()
    return f"/admin/{ICON_FILE}" if directory is not None and (directory / ICON_FILE).is_file() else None
