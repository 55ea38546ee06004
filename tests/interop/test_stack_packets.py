"""Another program's opinion of our packets: tshark reads a capture and finds nothing wrong."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tailbox.wire.addresses import Endpoint
from tests.userspace_stack.conftest import ADDRESSES, Impairment, make_wire, open_pair

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]
LINKTYPE_RAW = 101  # bare IP packets


def write_capture(path: Path, packets: list[bytes]) -> None:
    """A classic pcap file, one packet a millisecond."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    for number, packet in enumerate(packets):
        data += struct.pack("<IIII", 1 + number // 1000, number % 1000 * 1000, len(packet), len(packet)) + packet
    path.write_bytes(data)


def dissect(path: Path, *fields: str) -> list[list[str]]:
    checks = [f"{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp")]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=|"]
    for option in checks:
        command += ["-o", option]
    for name in fields:
        command += ["-e", name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("|") for line in result.stdout.splitlines()]


@pytest.mark.parametrize("version", [4, 6])
def test_tshark_finds_every_packet_well_formed(version: int, tmp_path: Path) -> None:
    wire = make_wire(version, Impairment(loss=0.03, delay_s=0.005), seed=5)
    client, server, _ = open_pair(wire, version=version)
    there = ADDRESSES[version][1]
    client.write(bytes(range(256)) * 250)
    wire.run(lambda: server.readable_bytes == 64000, for_s=30)
    client.shutdown()
    server.shutdown()
    wire.left.send_echo(there, identifier=1, sequence=2, payload=b"ping", now=wire.now)
    wire.left.bind_udp().send_to(b"datagram", Endpoint(there, 9))  # answered by port unreachable
    wire.run(for_s=5)
    write_capture(tmp_path / "stack.pcap", wire.packets)
    rows = dissect(
        tmp_path / "stack.pcap",
        "_ws.col.Protocol",
        "ip.checksum.status",
        "tcp.checksum.status",
        "udp.checksum.status",
        "_ws.malformed",
        "tcp.options.sack_perm",
        "tcp.options.wscale.shift",
        "tcp.options.sack_le",
    )
    assert len(rows) == len(wire.packets) > 60
    for row in rows:
        for status in row[1:4]:
            assert set(status.split(",")) <= {"", "1", "Good", "2", "Unverified"}, row  # 2: quoted and cut short
        assert not row[4], row
    tcp = [row for row in rows if row[2]]
    assert all(row[2] in ("1", "Good") for row in tcp if not row[0].startswith("ICMP"))
    assert any(row[6] == "7" for row in tcp)
    assert any(row[7] for row in tcp)  # losses were reported selectively
    assert any(row[0].startswith("ICMP") for row in rows)
