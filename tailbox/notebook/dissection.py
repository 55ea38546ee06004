"""What a recorded packet consists of, layer by layer, in words that a student can look up. Pure.

Reads the formats of `tailbox.wire`; what does not decode is shown as bytes with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.errors import WireError
from tailbox.node.core.tap import TapPoint
from tailbox.wire import derp, disco, wireguard
from tailbox.wire.addresses import Endpoint
from tailbox.wire.icmp import Echo, decode_icmp
from tailbox.wire.ip import IPHeader, Protocol
from tailbox.wire.keys import KEY_BYTES, NodePublicKey
from tailbox.wire.tcp import TcpFlag, TcpSegment
from tailbox.wire.udp import UdpDatagram

MAX_SHOWN_BYTES = 512  # of a hex dump or a text; the rest is counted
HEX_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of one packet."""

    name: str  # "TCP"
    summary: str  # one line
    fields: tuple[tuple[str, str], ...]  # name and value, in wire order
    data: bytes  # the bytes of this layer and what it carries


def dissect(point: str, data: bytes, detail: str, peer: NodePublicKey | None = None) -> tuple[Layer, ...]:
    """The layers of what a tap saw at a point, outermost first."""
    if point in (TapPoint.APPLICATION_SENT, TapPoint.APPLICATION_RECEIVED):
        return (_application(data),)
    if point == TapPoint.FILTER:
        return (_filter(data, detail), *_ip(data))
    if point in (TapPoint.PACKET_SENT, TapPoint.PACKET_RECEIVED):
        return _ip(data)
    if point in (TapPoint.WIREGUARD_SENT, TapPoint.WIREGUARD_RECEIVED):
        return (_carrier(point, data, detail, peer), _wireguard(data))
    if point in (TapPoint.DISCO_SENT, TapPoint.DISCO_RECEIVED):
        return (_carrier(point, data, detail, peer), _disco(data))
    if point in (TapPoint.DISCO_MESSAGE_SENT, TapPoint.DISCO_MESSAGE_RECEIVED):
        return (_disco_message(data),)
    return (Layer(str(point), detail, (("bytes", str(len(data))),), data),)


def hex_dump(data: bytes) -> str:
    """Offsets, sixteen bytes a line, and the printable characters."""
    lines = []
    for start in range(0, min(len(data), MAX_SHOWN_BYTES), HEX_COLUMNS):
        piece = data[start : start + HEX_COLUMNS]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in piece)
        lines.append(f"{start:04x}  {piece.hex(' '):<{HEX_COLUMNS * 3}} {text}")
    if len(data) > MAX_SHOWN_BYTES:
        lines.append(f"… {len(data) - MAX_SHOWN_BYTES} more bytes")
    return "\n".join(lines)


def _application(data: bytes) -> Layer:
    text = data[:MAX_SHOWN_BYTES].decode("utf-8", "replace")
    first_line = text.splitlines()[0] if text else ""
    return Layer("Application", first_line, (("bytes", str(len(data))), ("text", text.rstrip())), data)


def _filter(packet: bytes, detail: str) -> Layer:
    verdict, _, flow = detail.partition(": ")
    fields = (
        ("verdict", verdict),
        ("flow", flow),
        ("judged by", "the receiver, with rules from the coordinator, after opening WireGuard"),
    )
    return Layer("Filter", f"{verdict}: {flow}", fields, packet)


def _carrier(point: str, data: bytes, path: str, peer: NodePublicKey | None) -> Layer:
    """How the datagram travels on the underlay: `derp-900`, or an address."""
    is_sent = point in (TapPoint.WIREGUARD_SENT, TapPoint.DISCO_SENT)
    if not path.startswith("derp-"):
        way = "to" if is_sent else "from"
        return Layer("UDP (underlay)", f"direct, {way} {path}", ((way, path), ("payload", f"{len(data)} bytes")), data)
    region = path.removeprefix("derp-")
    kind = derp.FrameType.SEND_PACKET if is_sent else derp.FrameType.RECV_PACKET
    frame = f"{kind.value} ({'SendPacket, to the relay' if is_sent else 'RecvPacket, from the relay'})"
    fields = (
        ("region", region),
        ("frame type", frame),
        ("frame length", f"{KEY_BYTES + len(data)} bytes: a node key and the packet"),
        ("for" if is_sent else "from", peer.short() if peer is not None else "?"),
        ("carried in", "a TCP connection to the relay, inside TLS"),
    )
    return Layer("DERP", f"relayed by region {region}", fields, _derp_frame(is_sent, data, peer))


def _derp_frame(is_sent: bool, packet: bytes, peer: NodePublicKey | None) -> bytes:
    """The frame as the relay connection carries it. The tap sits before it, so it is made again here."""
    if peer is None:
        return packet
    return (derp.SendPacket(peer, packet) if is_sent else derp.RecvPacket(peer, packet)).encode()


def _wireguard(data: bytes) -> Layer:
    try:
        message = wireguard.decode(data)
    except WireError as error:
        return _undecoded("WireGuard", error, data)
    if isinstance(message, wireguard.TransportData):
        kind = "keep-alive" if message.is_keepalive else "data"
        fields = (
            ("type", "4 (transport data)"),
            ("receiver index", f"{message.receiver_index:#010x}"),
            ("counter", str(message.counter)),
            ("sealed", f"{len(message.sealed)} bytes: ciphertext and a tag of 16; nobody on the way can read them"),
        )
        return Layer("WireGuard", f"{kind}, counter {message.counter}", fields, data)
    name = {
        wireguard.HandshakeInitiation: "handshake initiation",
        wireguard.HandshakeResponse: "handshake response",
        wireguard.CookieReply: "cookie reply",
    }[type(message)]
    return Layer("WireGuard", name, (("type", f"{data[0]} ({name})"), ("bytes", str(len(data)))), data)


def _disco(data: bytes) -> Layer:
    try:
        envelope = disco.Envelope.decode(data)
    except WireError as error:
        return _undecoded("disco", error, data)
    fields = (
        ("magic", "TS💬"),
        ("sender", envelope.sender.short()),
        ("sealed", f"{len(envelope.sealed)} bytes: a NaCl box between the two disco keys"),
    )
    return Layer("disco", f"from {envelope.sender.short()}", fields, data)


def _disco_message(plaintext: bytes) -> Layer:
    """What the envelope seals. The two nodes can show it, nobody between them."""
    try:
        message = disco.decode_message(plaintext)
    except WireError as error:
        return _undecoded("disco message", error, plaintext)
    fields: tuple[tuple[str, str], ...]
    if isinstance(message, disco.Ping):
        kind, summary = "1 (Ping)", "Ping: is this path open?"
        sender = message.node_key.short() if message.node_key is not None else "not named"
        fields = (("transaction", message.transaction.hex()), ("node key", sender))
    elif isinstance(message, disco.Pong):
        kind, summary = "2 (Pong)", f"Pong: your ping came from {_seen_from(message.source)}"
        fields = (("transaction", message.transaction.hex()), ("ping came from", str(message.source)))
    elif isinstance(message, disco.CallMeMaybe):
        kind, summary = "3 (CallMeMaybe)", f"CallMeMaybe: ping me at {len(message.endpoints)} addresses"
        fields = tuple(("ping me at", str(endpoint)) for endpoint in message.endpoints)
    else:
        kind, summary = str(message.message_type), "a type that is not read here"
        fields = (("version", str(message.version)),)
    return Layer("disco message", summary, (("type", kind), *fields), plaintext)


def _seen_from(source: Endpoint) -> str:
    """The relay shows as 127.3.3.40, the port is its region: tailcfg DerpMagicIP."""
    return f"relay region {source.port}" if str(source.ip) == "127.3.3.40" else str(source)


def _ip(packet: bytes) -> tuple[Layer, ...]:
    try:
        header = IPHeader.decode(packet)
    except WireError as error:
        return (_undecoded("IP", error, packet),)
    version = header.source.version
    end = header.header_bytes + header.payload_bytes
    protocol = _protocol_name(header.protocol)
    fields = (
        ("version", str(version)),
        ("source", str(header.source)),
        ("destination", str(header.destination)),
        ("protocol", f"{header.protocol} ({protocol})"),
        ("hop limit", str(header.hop_limit)),
        ("payload", f"{header.payload_bytes} bytes"),
    )
    layer = Layer(f"IPv{version}", f"{header.source} → {header.destination}", fields, packet[:end])
    return (layer, *_transport(header, packet[header.header_bytes : end]))


def _transport(header: IPHeader, message: bytes) -> tuple[Layer, ...]:
    try:
        if header.protocol == Protocol.TCP:
            return _tcp(TcpSegment.decode(message, header.source, header.destination), message)
        if header.protocol == Protocol.UDP:
            datagram = UdpDatagram.decode(message, header.source, header.destination)
            ports = f"{datagram.source_port} → {datagram.destination_port}"
            fields = (("ports", ports), ("payload", f"{len(datagram.payload)} bytes"))
            return (Layer("UDP", ports, fields, message),)
        if header.protocol in (Protocol.ICMP, Protocol.ICMPV6):
            found = decode_icmp(message, header.source, header.destination)
            if isinstance(found, Echo):
                kind = "echo reply" if found.is_reply else "echo request"
                fields = (("identifier", str(found.identifier)), ("sequence", str(found.sequence)))
                return (Layer("ICMP", f"{kind} {found.sequence}", fields, message),)
            return (Layer("ICMP", type(found).__name__, (), message),)
    except WireError as error:
        return (_undecoded(_protocol_name(header.protocol), error, message),)
    return (Layer(_protocol_name(header.protocol), f"{len(message)} bytes", (), message),)


def _tcp(segment: TcpSegment, message: bytes) -> tuple[Layer, ...]:
    flags = " ".join(flag.name or "" for flag in TcpFlag if flag in segment.flags)
    fields = (
        ("ports", f"{segment.source_port} → {segment.destination_port}"),
        ("flags", flags),
        ("sequence", str(segment.sequence)),
        ("acknowledgment", str(segment.acknowledgment)),
        ("window", f"{segment.window} (before scaling)"),
        ("payload", f"{len(segment.payload)} bytes"),
    )
    summary = f"{segment.source_port} → {segment.destination_port} [{flags}] {len(segment.payload)} bytes"
    layer = Layer("TCP", summary, fields, message)
    return (layer, _application(bytes(segment.payload))) if segment.payload else (layer,)


def _undecoded(name: str, error: WireError, data: bytes) -> Layer:
    return Layer(name, f"does not decode: {error}", (("bytes", str(len(data))),), data)


def _protocol_name(number: int) -> str:
    try:
        return Protocol(number).name
    except ValueError:
        return f"protocol {number}"
