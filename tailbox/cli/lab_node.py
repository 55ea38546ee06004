"""A node of the lab: the public API, and nothing else. One of them shares a page of its own on the tailnet."""

from __future__ import annotations

import asyncio
import html
import signal
import sys

from tailbox.node.config import NodeConfig
from tailbox.node.node import Node
from tailbox.runtime.loops import run
from tailbox.telemetry.event_logger import logging_events
from tailbox.telemetry.logs import set_up_logs

PAGE_PORT = 80
REQUEST_TIMEOUT_S = 10.0

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{host}</title>
<h1>Hello from {host}</h1>
<p>This page lives on the tailnet only. You came from {visitor} ({address}).</p>
"""


def run_lab_node(config: NodeConfig, *, shares_page: bool) -> int:
    """Be a node until SIGTERM, or until the lab that started us is gone."""
    set_up_logs(1)
    return run(_run(config, shares_page=shares_page))


async def _run(config: NodeConfig, *, shares_page: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)  # the lab never writes: readable means that it is gone
    node = Node(config, include_loopback=True)
    async with logging_events(node.events), node:
        if shares_page:
            await _share_page(node, config.hostname)
        await stop.wait()
    return 0


async def _share_page(node: Node, host: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_TIMEOUT_S)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            writer.close()
            return
        address = writer.get_extra_info("peername")[0]
        found = node.whois(address)
        visitor = found.name.split(".")[0] if found is not None else "somewhere"
        body = PAGE.format(host=html.escape(host), visitor=html.escape(visitor), address=html.escape(address)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    await node.start_server(answer, PAGE_PORT)
