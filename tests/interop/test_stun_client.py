"""Debian's stun-client (RFC 3489) reads our answers.

It sends neither Tailscale's tag nor a cookie, so it needs the mode that answers everybody. Its test 1 is a plain
binding request; the others ask for answers from another address or port, which this server has not.
"""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tailbox.derp.stun_responder import StunResponder
from tailbox.runtime.network import HostNetwork

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("stun") is None, reason="stun-client is not installed"),
]


async def run_client(port: int, *, patience_s: float) -> str:
    """Its output; a client that waits for answers longer than that is stopped."""
    process = await asyncio.create_subprocess_exec(
        "stun", f"127.0.0.1:{port}", "1", "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    stop = asyncio.get_running_loop().call_later(patience_s, process.kill)
    output, _ = await process.communicate()
    stop.cancel()
    return output.decode(errors="replace")


async def test_the_client_reads_its_mapped_address() -> None:
    responder = StunResponder(HostNetwork(), port=0, answers_any=True)
    responder.start()
    try:
        output = await run_client(responder.ports[0], patience_s=20.0)
    finally:
        responder.close()
    assert "MappedAddress = 127.0.0.1:" in output, output
    assert responder.counters.dispositions["success"] > 0


async def test_by_default_strangers_get_no_answer() -> None:
    responder = StunResponder(HostNetwork(), port=0)
    responder.start()
    try:
        output = await run_client(responder.ports[0], patience_s=1.0)
    finally:
        responder.close()
    assert "MappedAddress = 127.0.0.1" not in output
    assert responder.counters.dispositions["success"] == 0
    assert responder.counters.dispositions["not_stun"] > 0
