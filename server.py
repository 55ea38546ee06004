#!/usr/bin/env python3
"""Tailbox in one process: `python server.py --role=coord,derp,node`. The same as `tailbox serve`."""

from tailbox.cli.serve import app

if __name__ == "__main__":
    app(prog_name="server.py")
