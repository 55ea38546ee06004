"""What the command line prints: data on standard output, talk on standard error, and one way to fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from tailbox.errors import TailboxError

P = ParamSpec("P")
R = TypeVar("R")

SUCCESS = 0
FAILURE = 1
USAGE_ERROR = 2  # typer's
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class CommandFailed(Exception):
    """Ends a command: the text goes to standard error unless it was printed already."""

    def __init__(self, message: str = "", *, code: int = FAILURE) -> None:
        super().__init__(message)
        self.code = code


def fail(message: str, *, code: int = FAILURE) -> NoReturn:
    """Raises CommandFailed with the message."""
    raise CommandFailed(message, code=code)


def say(text: str) -> None:
    """Talk: progress, hints, warnings."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Data."""
    print(text, flush=True)


def show_json(value: Any, *, indent: str | int = 2) -> None:
    print(json.dumps(value, indent=indent, ensure_ascii=False), flush=True)


def columns(rows: Sequence[Sequence[str]], *, padding: int = 2) -> str:
    """Cells in columns two spaces apart, the last one ragged: the layout of Go's tabwriter."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[i] + padding) for i, cell in enumerate(row[:-1])]
        lines.append(("".join(cells) + row[-1]).rstrip() if row else "")
    return "\n".join(lines)


def go_duration(seconds: float, *, resolution_s: float = 0.001) -> str:
    """A duration as Go prints it, rounded: `31ms`, `1.2s`, `1m30s`, `2h0m0s`."""
    rounded = round(seconds / resolution_s) * resolution_s
    if rounded <= 0:
        return "0s"
    if rounded < 1e-3:
        return f"{rounded * 1e6:.6g}µs"
    if rounded < 1:
        return f"{rounded * 1e3:.6g}ms"
    minutes, rest = divmod(rounded, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{round(rest, 6):.6g}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


def run(app: Callable[..., object], name: str) -> NoReturn:
    """Run a typer application as a program. Wrong usage ends with 1, as upstream's commands do."""
    try:
        app(prog_name=name)
    except SystemExit as ending:
        sys.exit(FAILURE if ending.code == USAGE_ERROR else ending.code)
    sys.exit(SUCCESS)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every deliberate error of a command into one line and an exit code."""
    import typer

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CommandFailed as failure:
            if str(failure):
                say(_without_secrets(str(failure)))
            raise typer.Exit(failure.code) from None
        except TailboxError as error:
            say(_without_secrets(f"tailbox: {error}"))
            raise typer.Exit(FAILURE) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader went away: nothing is left to say, to nobody
            raise typer.Exit(FAILURE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return guarded


def _without_secrets(text: str) -> str:
    """Errors repeat what was given; a key may have been given in the wrong place."""
    from tailbox.telemetry.logs import redact

    return redact(text)
