"""Our WireGuard against wireguard-go, in network namespaces of the test's own.

```text
   this test: Tunnels on a UDP socket        namespace: wireguard-go, 100.99.0.2 on its interface
   10.99.71.1 ── veth ──────────────────────────────── 10.99.71.2:51820
```
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailbox.crypto import x25519
from tailbox.randomness import SeededRandom
from tailbox.runtime.system import SystemRandom
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wireguard.events import HandshakeCompleted, TunnelEffects, TunnelEvent
from tailbox.wireguard.tunnels import PeerSettings, Tunnels

pytestmark = [pytest.mark.interop, pytest.mark.netlab]

NAMESPACE = f"tbwg{os.getpid()}"
OUTSIDE, INSIDE, DEVICE = f"tbo{os.getpid()}", f"tbi{os.getpid()}", f"tbw{os.getpid()}"
OUR_ADDRESS, THEIR_ADDRESS, THEIR_PORT = "10.99.71.1", "10.99.71.2", 51820
OUR_OVERLAY, THEIR_OVERLAY = "100.99.0.1", "100.99.0.2"
PRESHARED_KEY = bytes(range(32))
PATIENCE_S = 10.0


def reason_to_skip() -> str | None:
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [program for program in ("wireguard-go", "wg", "ip") if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    return None


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


def inside(*command: str) -> str:
    return run("ip", "netns", "exec", NAMESPACE, *command)


class OurEnd:
    """Tunnels on a UDP socket, driven by hand: one peer, one address."""

    def __init__(self, private: NodePrivateKey, peer: NodePublicKey) -> None:
        self.peer = peer
        self.public = x25519.node_public(private)
        self.tunnels = Tunnels(private, random=SystemRandom(), unix_offset_s=time.time() - time.monotonic())
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((OUR_ADDRESS, 0))
        self.socket.settimeout(0.05)
        self.packets: list[bytes] = []
        self.events: list[TunnelEvent] = []
        self.heard: list[NodePublicKey] = []
        settings = PeerSettings(preshared_key=PRESHARED_KEY)
        self.perform(self.tunnels.set_peers({peer: settings}, now=time.monotonic()))

    def perform(self, effects: TunnelEffects) -> None:
        self.events += effects.events
        self.heard += effects.heard
        self.packets += [bytes(packet) for _, train in effects.to_stack for packet in train]
        for _, train in effects.to_network:
            for message in train:
                self.socket.sendto(message, (THEIR_ADDRESS, THEIR_PORT))

    def send(self, *packets: bytes) -> None:
        train = Train(b"".join(packets), len(packets[0]))
        self.perform(self.tunnels.seal(self.peer, train, now=time.monotonic()))

    def serve_until(self, done: Callable[[], bool]) -> None:
        """Receive until something is so; the test fails after PATIENCE_S."""
        give_up = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < give_up, f"gave up; {self.events=} {self.tunnels.drops=}"
            try:
                message, source = self.socket.recvfrom(65_535)
            except TimeoutError:
                self.perform(self.tunnels.handle_deadline(now=time.monotonic()))
                continue
            raw_source = socket.inet_aton(source[0]) + source[1].to_bytes(2, "big")
            self.perform(self.tunnels.open(Train.of(message), source=raw_source, now=time.monotonic()))


def ones_complement(data: bytes) -> int:
    words = struct.iter_unpack("!H", data + bytes(len(data) % 2))
    total: int = sum(word for (word,) in words)
    return 0xFFFF - total % 0xFFFF


def ipv4(protocol: int, payload: bytes) -> bytes:
    addresses = socket.inet_aton(OUR_OVERLAY) + socket.inet_aton(THEIR_OVERLAY)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0) + addresses
    return header[:10] + ones_complement(header).to_bytes(2, "big") + header[12:] + payload


def echo_request(sequence: int, payload: bytes) -> bytes:
    message = struct.pack("!BBHHH", 8, 0, 0, 0x7A11, sequence) + payload
    return ipv4(1, message[:2] + ones_complement(message).to_bytes(2, "big") + message[4:])


def echo_replies(packets: list[bytes]) -> dict[int, bytes]:
    """Sequence → payload of the replies to our requests, trimmed to what the IP header says."""
    replies = {}
    for packet in packets:
        packet = packet[: int.from_bytes(packet[2:4], "big")]
        if packet[9] == 1 and packet[20] == 0 and packet[24:26] == b"\x7a\x11":
            replies[int.from_bytes(packet[26:28], "big")] = packet[28:]
    return replies


def configure_device(theirs: NodePrivateKey, ours: NodePublicKey, folder: Path) -> None:
    """Address and keys of the interface; the configuration file is the test's own and temporary."""
    configuration = folder / "wg.conf"
    configuration.write_text(
        f"[Interface]\nPrivateKey = {base64.b64encode(theirs.raw).decode()}\nListenPort = {THEIR_PORT}\n"
        f"[Peer]\nPublicKey = {base64.b64encode(ours.raw).decode()}\n"
        f"PresharedKey = {base64.b64encode(PRESHARED_KEY).decode()}\nAllowedIPs = {OUR_OVERLAY}/32\n"
    )
    inside("wg", "setconf", DEVICE, str(configuration))
    inside("ip", "address", "add", f"{THEIR_OVERLAY}/24", "dev", DEVICE)
    inside("ip", "link", "set", DEVICE, "mtu", "1280", "up")


@pytest.fixture
def end(tmp_path: Path) -> Iterator[OurEnd]:
    """Our end, with wireguard-go running behind a veth; everything is gone afterwards."""
    why = reason_to_skip()
    if why is not None:
        pytest.skip(why)
    random = SeededRandom(f"interop {os.getpid()} {time.time_ns()}")
    ours, theirs = x25519.generate(NodePrivateKey, random), x25519.generate(NodePrivateKey, random)
    daemon: subprocess.Popen[bytes] | None = None
    our_end: OurEnd | None = None
    try:
        try:
            run("ip", "netns", "add", NAMESPACE)
            run("ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAMESPACE)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot make namespaces joined by veth here: {error.stderr.strip()}")
        run("ip", "address", "add", f"{OUR_ADDRESS}/30", "dev", OUTSIDE)
        run("ip", "link", "set", OUTSIDE, "up")
        inside("ip", "address", "add", f"{THEIR_ADDRESS}/30", "dev", INSIDE)
        inside("ip", "link", "set", INSIDE, "up")
        inside("ip", "link", "set", "lo", "up")
        command = ["ip", "netns", "exec", NAMESPACE, "wireguard-go", "--foreground", DEVICE]
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for_device(daemon)
        configure_device(theirs, x25519.node_public(ours), tmp_path)
        our_end = OurEnd(ours, x25519.node_public(theirs))
        yield our_end
    finally:
        if our_end is not None:
            our_end.socket.close()
        if daemon is not None:
            daemon.terminate()
            daemon.communicate(timeout=5)
        subprocess.run(["ip", "link", "delete", OUTSIDE], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True, check=False)


def wait_for_device(daemon: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while DEVICE not in inside("wg", "show", "interfaces"):
        assert time.monotonic() < give_up, "wireguard-go made no interface"
        if daemon.poll() is not None:
            pytest.fail(f"wireguard-go ended: {daemon.communicate()[1]!r}")
        time.sleep(0.05)


def test_we_initiate_and_every_echo_comes_back(end: OurEnd) -> None:
    payloads = {sequence: bytes([sequence]) * 1000 for sequence in range(1, 31)}
    end.send(echo_request(1, payloads[1]))  # waits for the handshake
    end.serve_until(lambda: 1 in echo_replies(end.packets))
    assert HandshakeCompleted(end.peer, initiated_by_us=True) in end.events
    end.send(*(echo_request(sequence, payloads[sequence]) for sequence in range(2, 31)))  # the matrix path
    end.serve_until(lambda: len(echo_replies(end.packets)) == 30)
    assert echo_replies(end.packets) == payloads
    end.send(echo_request(31, b"odd"))  # padded on the way out, and back
    end.serve_until(lambda: 31 in echo_replies(end.packets))
    assert echo_replies(end.packets)[31] == b"odd"
    assert set(end.heard) == {end.peer}
    assert not end.tunnels.drops
    received, sent = inside("wg", "show", DEVICE, "transfer").split()[1:]
    assert int(received) > 31_000
    assert int(sent) > 31_000


ASK_FOR_AN_ECHO = f"""
import socket
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout({PATIENCE_S})
asker.sendto(b"question" * 100, ("{OUR_OVERLAY}", 7))
print(asker.recv(2000).decode())
"""


def test_they_initiate_and_get_an_answer(end: OurEnd) -> None:
    key = base64.b64encode(end.public.raw).decode()
    inside("wg", "set", DEVICE, "peer", key, "endpoint", f"{OUR_ADDRESS}:{end.socket.getsockname()[1]}")
    command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", ASK_FOR_AN_ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asker:
        end.serve_until(lambda: any(packet[9] == 17 for packet in end.packets))
        question = next(packet for packet in end.packets if packet[9] == 17)
        ports, payload = question[20:24], question[28 : int.from_bytes(question[2:4], "big")]
        assert payload == b"question" * 100
        answer = ports[2:] + ports[:2] + struct.pack("!HH", 8 + len(b"answer"), 0) + b"answer"
        end.send(ipv4(17, answer))
        output, _ = asker.communicate(timeout=PATIENCE_S)
    assert output.strip() == "answer"
    assert HandshakeCompleted(end.peer, initiated_by_us=False) in end.events
    assert not end.tunnels.drops


def test_they_take_a_second_handshake_in_place_of_the_first(end: OurEnd) -> None:
    end.send(echo_request(1, b"before"))
    end.serve_until(lambda: 1 in echo_replies(end.packets))
    time.sleep(0.05)  # they take one initiation of a peer every 20 ms
    end.tunnels.reset_peer(end.peer, now=time.monotonic())
    end.send(echo_request(2, b"after"))
    end.serve_until(lambda: 2 in echo_replies(end.packets))
    assert echo_replies(end.packets) == {1: b"before", 2: b"after"}
