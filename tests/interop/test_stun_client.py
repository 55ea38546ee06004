"""Debian's stun-client (RFC 3489) reads our answers.

It sends neither Tailscale's tag nor a cookie, so it needs the mode that answers everybody. Its questions 2 and 3 ask
for answers from another address or port, which this server has not: it must give up on those and still name the
mapping.
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


async def run_client(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "stun", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return output.decode(errors="replace")


async def test_the_client_reads_its_mapped_address() -> None:
    responder = StunResponder(HostNetwork(), port=0, answers_any=True)
    responder.start()
    try:
        output = await run_client(f"127.0.0.1:{responder.ports[0]}", "1", "-v", "-p", "0")
    finally:
        responder.close()
    assert "MappedAddress = 127.0.0.1:" in output, output
    assert responder.counters.dispositions["success"] > 0


async def test_by_default_strangers_get_no_answer() -> None:
    responder = StunResponder(HostNetwork(), port=0)
    responder.start()
    try:
        output = await run_client(f"127.0.0.1:{responder.ports[0]}", "1", "-v", "-p", "0")
    finally:
        responder.close()
    assert "MappedAddress = 127.0.0.1" not in output
    assert responder.counters.dispositions["success"] == 0
    assert responder.counters.dispositions["not_stun"] > 0
