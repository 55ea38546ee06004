#!/usr/bin/env python3
"""Tailbox in one process: `python server.py --role=coord,derp,node`. The same as `tailbox serve`."""

from tailbox.cli.output import run
from tailbox.cli.serve import app

if __name__ == "__main__":
    run(app, "server.py")
