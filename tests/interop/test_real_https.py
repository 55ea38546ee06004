"""Control channel and relay by TLS with a private authority; the server goes away and comes back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.interop.conftest import Lab
from tests.interop.real_programs import RELAYED_ONLY, RealNode, fetch
from tests.system.processes import NodeProcess, Server, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.netlab, pytest.mark.usefixtures("real_tailscale")]

RECONNECT_S = 45.0  # a client backs off up to 30 s while a server is away


@dataclass
class Tailnet:
    """A server that is reached by https only, a node of ours and a real one, which meet at its relay."""

    lab: Lab
    server: Server
    url: str
    ours: NodeProcess
    real: RealNode


@pytest.fixture(scope="module")
def tailnet(lab: Lab, real_tailscale: None) -> Tailnet:
    server = lab.server(starts=False)
    url = f"https://localhost:{server.tls_port}"
    server.flags = (f"--url={url}", "--derp-host=localhost")
    server.start()
    certificate = server.directory / "tls" / "development.crt"
    readable = lab.directory / "authority.crt"
    readable.write_bytes(certificate.read_bytes())
    readable.chmod(0o644)
    extra = {"SSL_CERT_FILE": str(readable), **RELAYED_ONLY}
    key = server.create_key("https")["key"]
    real = lab.real_node("real", extra=extra)
    ours = lab.our_node("ours", url, key, extra=extra)
    real.up(url, key)
    return Tailnet(lab, server, url, ours, real)


def test_both_join_by_https_and_meet_at_the_relay(tailnet: Tailnet) -> None:
    assert "via DERP(home)" in tailnet.real.wait_ping("ours")
    port = tailnet.lab.page("by TLS\n")
    assert fetch(f"http://ours:{port}/", tailnet.real.proxy_port) == "by TLS\n"
    assert fetch(f"http://real:{port}/", tailnet.ours.proxy_port) == "by TLS\n"


def test_both_come_back_after_the_server_was_killed(tailnet: Tailnet) -> None:
    tailnet.server.kill()
    tailnet.server.start()
    online = "is online again"
    wait_for(f"ours {online}", lambda: tailnet.server.devices()["ours"]["connectedToControl"], timeout_s=RECONNECT_S)
    wait_for(f"real {online}", lambda: tailnet.server.devices()["real"]["connectedToControl"], timeout_s=RECONNECT_S)
    assert "via DERP(home)" in tailnet.real.wait_ping("ours")
    wait_for("ours reaches the real one", lambda: not tailnet.ours.ping(tailnet.real.addresses[0]).get("Err"))
