"""Our node in the tailnet of an unmodified Headscale: control channel and embedded relay by TLS, beside a real node."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tailbox.runtime.tls import Certificate, development_certificate
from tests.interop.conftest import Lab
from tests.interop.real_programs import RELAYED_ONLY, RealNode, RealProcess, fetch, missing_programs, run_program
from tests.system.privileges import launcher
from tests.system.processes import LOOPBACK, NodeProcess, Server, free_port, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.netlab]

TEXT = "a page in Headscale's tailnet\n" * 50_000
EXPLAINED = (  # both with real nodes, too
    "node no longer exists in NodeStore",  # a request that crosses its node's deletion
    "node not found",  # a change told to a node that was deleted
)
OUR_REGION_ID, HEADSCALES_REGION_ID = 900, 999
CONFIGURATION = """
server_url: https://localhost:{port}
listen_addr: {host}:{port}
metrics_listen_addr: {host}:{metrics_port}
grpc_listen_addr: {host}:{grpc_port}
noise: {{private_key_path: {folder}/noise.key}}
prefixes: {{v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential}}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: headscale
    region_name: Headscale
    verify_clients: true
    stun_listen_addr: {host}:{stun_port}
    private_key_path: {folder}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {host}
    ipv6: none
  urls: []
  paths: [{folder}/derp.yaml]
  auto_update_enabled: false
disable_check_updates: true
database: {{type: sqlite, sqlite: {{path: {folder}/db.sqlite}}}}
tls_cert_path: {certificate}
tls_key_path: {key}
log: {{level: info, format: text}}
policy: {{mode: file, path: ""}}
dns: {{magic_dns: true, base_domain: headscale.test, override_local_dns: false, nameservers: {{global: []}}}}
unix_socket: {folder}/headscale.sock
logtail: {{enabled: false}}
"""
OUR_REGION = """
regions:
  900:
    regionid: 900
    regioncode: ours
    regionname: Ours
    nodes:
      - {{name: 900a, regionid: 900, hostname: {host}, certname: "{pin}", ipv4: {host}, ipv6: none,
          derpport: {port}, stunport: {stun_port}}}
"""


class Headscale(RealProcess):
    """`headscale serve`, and its command line."""

    def __init__(self, directory: Path, certificate: Certificate, relay: Server) -> None:
        """`relay`: one of ours, the second region."""
        super().__init__("headscale", directory)
        (directory / "derp.yaml").write_text(
            OUR_REGION.format(
                pin=Certificate(relay.directory / "tls" / "development.crt", Path()).pin,
                host=LOOPBACK,
                port=relay.tls_port,
                stun_port=relay.stun_port,
            )
        )
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.trusts = {"SSL_CERT_FILE": str(certificate.chain_file)}
        self._configuration = directory / "config.yaml"
        self._configuration.write_text(
            CONFIGURATION.format(
                host=LOOPBACK,
                port=self.port,
                metrics_port=free_port(),
                grpc_port=free_port(),
                stun_port=free_port(socket.SOCK_DGRAM),
                folder=directory,
                certificate=certificate.chain_file,
                key=certificate.key_file,
            )
        )

    def start(self) -> None:
        self.spawn("headscale", "serve", f"--config={self._configuration}")

        def listens() -> bool:
            assert self.is_alive, self.log
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, self.port)) == 0

        wait_for("headscale listens", listens)

    def command(self, *arguments: str) -> Any:
        """The command line's JSON answer."""
        done = run_program("headscale", f"--config={self._configuration}", "--output=json", *arguments, check=True)
        return json.loads(done.stdout)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """By given name."""
        return {node["given_name"]: node for node in self.command("nodes", "list") or ()}


@dataclass
class HeadscaleTailnet:
    """Headscale, a node of ours and a real one, both up."""

    lab: Lab
    headscale: Headscale
    relay: Server  # ours, beside Headscale's embedded one
    ours: NodeProcess
    real: RealNode
    key: str  # reusable


@pytest.fixture(scope="module")
def tailnet(lab: Lab) -> HeadscaleTailnet:
    if why := missing_programs("headscale", "tailscaled", "tailscale"):
        pytest.skip(why)
    tls = lab.directory / "tls"
    certificate = development_certificate(tls, ["localhost"], unix_now_s=time.time())
    launcher().give(tls)
    certificate.chain_file.chmod(0o644)
    tls.chmod(0o755)
    relay = lab.server("relay", roles="derp")
    headscale = Headscale(lab.directory / "headscale", certificate, relay)
    lab.processes.append(headscale)
    headscale.start()
    user = headscale.command("users", "create", "tester")
    key = headscale.command("preauthkeys", "create", f"--user={user['id']}", "--reusable")["key"]
    real = lab.real_node("real", extra=headscale.trusts)
    ours = lab.our_node("ours", headscale.url, key, extra=headscale.trusts)
    real.up(headscale.url, key)
    return HeadscaleTailnet(lab, headscale, relay, ours, real, key)


def test_headscale_knows_our_node(tailnet: HeadscaleTailnet) -> None:
    wait_for("ours is online", lambda: tailnet.headscale.nodes()["ours"].get("online"))
    assert tailnet.headscale.nodes()["ours"]["ip_addresses"] == tailnet.ours.addresses
    assert tailnet.ours.status()["Self"]["DNSName"] == "ours.headscale.test."
    assert tailnet.ours.status()["Self"]["Relay"] in ("headscale", "ours")


@pytest.mark.parametrize("kind", ["disco", "TSMP", "ICMP"])
def test_our_node_pings_the_real_one(tailnet: HeadscaleTailnet, kind: str) -> None:
    wait_for("the real node is known", lambda: tailnet.ours.peer("real"))
    for address in tailnet.real.addresses:
        wait_for(f"{kind} pong of {address}", partial(is_answered, tailnet.ours, address, kind))


@pytest.mark.parametrize("kind", ["--tsmp=false", "--tsmp", "--icmp"])
def test_the_real_node_pings_ours(tailnet: HeadscaleTailnet, kind: str) -> None:
    assert re.match(r"pong from ours \(", tailnet.real.wait_ping("ours", kind))


def test_pages_travel_both_ways(tailnet: HeadscaleTailnet) -> None:
    port = tailnet.lab.page(TEXT)
    for origin, target in ((tailnet.real, tailnet.ours), (tailnet.ours, tailnet.real)):
        assert fetch(f"http://{target.addresses[0]}:{port}/", origin.proxy_port) == TEXT
        assert fetch(f"http://{target.name}:{port}/", origin.proxy_port) == TEXT
        assert fetch(f"http://{target.name}.headscale.test:{port}/", origin.proxy_port) == TEXT


def test_through_a_relay_only_and_when_ours_is_gone_through_headscales(tailnet: HeadscaleTailnet) -> None:
    headscale = tailnet.headscale
    relayed = tailnet.lab.our_node("relayed", headscale.url, tailnet.key, extra=RELAYED_ONLY | headscale.trusts)
    address = tailnet.real.addresses[0]
    wait_for("the real node is known", lambda: relayed.peer("real"))
    port = tailnet.lab.page(TEXT)
    wait_for("a pong", lambda: relayed.ping(address).get("DERPRegionID") in (OUR_REGION_ID, HEADSCALES_REGION_ID))
    assert fetch(f"http://{address}:{port}/", relayed.proxy_port) == TEXT
    tailnet.relay.kill()
    wait_for("another way", lambda: relayed.ping(address).get("DERPRegionID") == HEADSCALES_REGION_ID, timeout_s=60)
    fetch_at_last(f"http://{address}:{port}/", relayed.proxy_port)
    fetch_at_last(f"http://{relayed.addresses[0]}:{port}/", tailnet.real.proxy_port)


def fetch_at_last(url: str, proxy_port: int) -> None:
    """The page comes through within a minute: both ends have to notice that a relay is gone."""

    def is_fetched() -> bool:
        try:
            return fetch(url, proxy_port, timeout_s=10) == TEXT
        except AssertionError:
            return False

    wait_for(f"{url} by another way", is_fetched, timeout_s=60)


def test_a_rename_is_seen_at_once(tailnet: HeadscaleTailnet) -> None:
    node_id = tailnet.headscale.nodes()["real"]["id"]
    tailnet.headscale.command("nodes", "rename", f"--identifier={node_id}", "other")
    wait_for("ours sees the new name", lambda: tailnet.ours.peer("other"), timeout_s=5)
    tailnet.headscale.command("nodes", "rename", f"--identifier={node_id}", "real")
    wait_for("ours sees the old name", lambda: tailnet.ours.peer("real"), timeout_s=5)


def test_an_expired_node_logs_in_anew(tailnet: HeadscaleTailnet) -> None:
    headscale = tailnet.headscale
    node = tailnet.lab.our_node("expires", headscale.url, tailnet.key, extra=headscale.trusts)
    node_id = headscale.nodes()["expires"]["id"]
    headscale.command("nodes", "expire", f"--identifier={node_id}")
    wait_for(
        "it needs a login or has one again", lambda: node.status().get("BackendState") in ("NeedsLogin", "Running")
    )
    node.client.request("POST", "start", body={"AuthKey": tailnet.key})
    wait_for("it is up", lambda: node.status().get("BackendState") == "Running")


def test_a_person_approves_an_interactive_login(tailnet: HeadscaleTailnet) -> None:
    headscale = tailnet.headscale
    node = NodeProcess("asks", tailnet.lab.directory / "asks", headscale.url)
    tailnet.lab.processes.append(node)
    node.spawn(extra=headscale.trusts)
    url = str(wait_for("a sign-in address", lambda: node.status().get("AuthURL")))
    assert url.startswith(f"{headscale.url}/register/")
    headscale.command("nodes", "register", "--user=tester", f"--key={url.rpartition('/')[2]}")
    node.wait_running()
    assert headscale.nodes()["asks"]["ip_addresses"] == node.addresses


def test_a_node_that_logs_out_is_expired_there(tailnet: HeadscaleTailnet) -> None:
    node = tailnet.lab.our_node("leaves", tailnet.headscale.url, tailnet.key, extra=tailnet.headscale.trusts)
    node.client.request("POST", "logout")
    assert node.status()["BackendState"] == "NeedsLogin"
    assert tailnet.headscale.nodes()["leaves"]["expiry"]["seconds"] <= time.time() + 1


def test_a_deleted_node_is_forgotten_by_its_peers(tailnet: HeadscaleTailnet) -> None:
    """Headscale tells the node itself nothing: ours stays as it is, as does the real one."""
    headscale = tailnet.headscale
    tailnet.lab.our_node("deleted", headscale.url, tailnet.key, extra=headscale.trusts)
    for node in (tailnet.real, tailnet.ours):
        wait_for(f"{node.name} knows it", partial(node.peer, "deleted"))
    headscale.command("nodes", "delete", f"--identifier={headscale.nodes()['deleted']['id']}", "--force")
    for node in (tailnet.real, tailnet.ours):
        wait_for(f"{node.name} forgot it", partial(is_unknown, node, "deleted"))


def test_headscale_complains_about_nothing(tailnet: HeadscaleTailnet) -> None:
    assert tailnet.headscale.is_alive
    complaints = [line for line in tailnet.headscale.log.splitlines() if " ERR " in line or " WRN " in line]
    assert [line for line in complaints if not any(known in line for known in EXPLAINED)] == []


def is_answered(node: NodeProcess, address: str, kind: str) -> bool:
    return not node.ping(address, kind).get("Err")


def is_unknown(node: NodeProcess | RealNode, name: str) -> bool:
    return not node.peer(name)
