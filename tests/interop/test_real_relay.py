"""Our nodes through an unmodified `derper`; unmodified `derpprobe` and `stunc` against our relay."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailbox.runtime.tls import Certificate
from tests.interop.conftest import Lab
from tests.interop.real_programs import RELAYED_ONLY, RealProcess, fetch, missing_programs, run_program
from tests.system.processes import LOOPBACK, NodeProcess, Server, free_port, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.netlab]

REGION_ID = 901
TEXT = "through somebody else's relay\n" * 50_000


@dataclass
class Derper:
    """A relay that makes its own certificate, and the DERP node that names it."""

    process: RealProcess
    port: int
    stun_port: int
    certificate: Certificate

    def derp_node(self) -> dict[str, object]:
        found = {"Name": f"{REGION_ID}a", "RegionID": REGION_ID, "HostName": LOOPBACK, "IPv4": LOOPBACK}
        return {
            **found,
            "CertName": self.certificate.pin,
            "DERPPort": self.port,
            "STUNPort": self.stun_port,
        }


@pytest.fixture(scope="module")
def coordinator(lab: Lab) -> Server:
    """Not started: its map names derper, and derper asks it who may connect."""
    return lab.server("coordinator", roles="coord", flags=(f"--derp-map-file={lab.directory}/map.json",), starts=False)


@pytest.fixture(scope="module")
def derper(lab: Lab, coordinator: Server) -> Derper:
    if why := missing_programs("derper"):
        pytest.skip(why)
    process = RealProcess("derper", lab.directory / "derper")
    lab.processes.append(process)
    port, stun_port = free_port(), free_port(socket.SOCK_DGRAM)
    folder = process.directory
    flags = [f"--a={LOOPBACK}:{port}", "--http-port=-1", f"--stun-port={stun_port}", f"--hostname={LOOPBACK}"]
    flags += ["--certmode=manual", f"--certdir={folder}", f"-c={folder}/derper.key"]
    flags += [f"--verify-client-url={coordinator.url}/verify", "--verify-client-url-fail-open=false"]
    process.spawn("derper", *flags)
    certificate = Certificate(folder / f"{LOOPBACK}.crt", folder / f"{LOOPBACK}.key")

    def listens() -> bool:
        assert process.is_alive, process.log
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, port)) == 0

    wait_for("derper listens", listens)
    return Derper(process, port, stun_port, certificate)


@pytest.fixture(scope="module")
def pair(lab: Lab, coordinator: Server, derper: Derper) -> tuple[NodeProcess, NodeProcess]:
    """Two of our nodes whose only relay is derper, and that use no other way."""
    write_map(lab.directory / "map.json", derper.derp_node())
    coordinator.start()
    key = coordinator.create_key("derper")["key"]
    return (
        lab.our_node("one", coordinator.url, key, extra=RELAYED_ONLY),
        lab.our_node("two", coordinator.url, key, extra=RELAYED_ONLY),
    )


def write_map(path: Path, node: dict[str, object]) -> None:
    """A DERP map of one region with one node."""
    region = {"RegionID": node["RegionID"], "RegionCode": "test", "RegionName": "Test", "Nodes": [node]}
    path.write_text(json.dumps({"Regions": {str(node["RegionID"]): region}}))
    path.chmod(0o644)


def test_our_nodes_reach_each_other_through_derper(lab: Lab, pair: tuple[NodeProcess, NodeProcess]) -> None:
    one, two = pair
    one.wait_path(two, direct=False)
    answer = one.ping(two.addresses[0])
    assert answer["DERPRegionID"] == REGION_ID
    port = lab.page(TEXT)
    assert fetch(f"http://{two.addresses[0]}:{port}/", one.proxy_port) == TEXT
    assert fetch(f"http://{one.addresses[0]}:{port}/", two.proxy_port) == TEXT


def test_a_real_node_and_ours_meet_at_derper(
    lab: Lab, coordinator: Server, pair: tuple[NodeProcess, NodeProcess], real_tailscale: None
) -> None:
    real = lab.real_node("real", extra=RELAYED_ONLY)
    real.up(coordinator.url, coordinator.create_key("real")["key"])
    assert "via DERP(test)" in real.wait_ping("one")
    port = lab.page(TEXT)
    assert fetch(f"http://one:{port}/", real.proxy_port) == TEXT
    assert fetch(f"http://real:{port}/", pair[0].proxy_port) == TEXT


def test_our_netcheck_hears_derpers_stun(pair: tuple[NodeProcess, NodeProcess]) -> None:
    report = pair[0].client.request("GET", "netcheck")
    assert report["UDP"] is True
    assert report["PreferredDERP"] == REGION_ID
    assert str(REGION_ID) in report["RegionLatency"]


def test_derper_lets_in_whom_our_coordinator_knows_and_nobody_else(lab: Lab, derper: Derper) -> None:
    if why := missing_programs("derpprobe"):
        pytest.skip(why)
    path = lab.directory / "strangers.json"
    write_map(path, derper.derp_node() | {"InsecureForTests": True, "STUNPort": -1})
    done = run_program("derpprobe", "-once", f"-derp-map=file://{path}", timeout_s=60)
    assert done.returncode == 1
    assert "not authorized" in derper.process.log or "rejected" in derper.process.log, derper.process.log


def test_derper_complains_about_nothing(derper: Derper, pair: tuple[NodeProcess, NodeProcess]) -> None:
    assert derper.process.is_alive
    complaints = [line for line in derper.process.log.splitlines() if "error" in line.lower() or "bad" in line.lower()]
    assert complaints == [], derper.process.log


@pytest.fixture(scope="module")
def our_relay(lab: Lab) -> Server:
    """A relay alone, open to all, under a name: the prober compares what it sent as SNI."""
    return lab.server("relay", roles="derp", flags=("--derp-host=localhost",))


def test_derpprobe_finds_our_relay_healthy(lab: Lab, our_relay: Server) -> None:
    if why := missing_programs("derpprobe"):
        pytest.skip(why)
    node: dict[str, object] = {"Name": "900a", "RegionID": 900, "HostName": "localhost", "IPv4": LOOPBACK}
    node |= {"IPv6": "none", "DERPPort": our_relay.tls_port, "STUNPort": our_relay.stun_port}
    path = lab.directory / "probemap.json"
    write_map(path, node)
    trusted = {"SSL_CERT_FILE": str(our_relay.directory / "tls" / "development.crt")}
    done = run_program("derpprobe", "-once", f"-derp-map=file://{path}", extra=trusted, timeout_s=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said


def test_stunc_hears_our_answer(our_relay: Server) -> None:
    if why := missing_programs("stunc"):
        pytest.skip(why)
    said = run_program("stunc", LOOPBACK, str(our_relay.stun_port), check=True)
    assert f"{LOOPBACK}:" in said.stdout + said.stderr, said
