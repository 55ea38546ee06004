from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from tailbox.runtime import network as module
from tailbox.runtime.network import HostNetwork, InterfaceAddress


def test_interfaces_include_loopback() -> None:
    assert IPv4Address("127.0.0.1") in {found.ip for found in HostNetwork().interface_addresses()}


def test_ipv6_addresses_are_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = tmp_path / "if_inet6"
    listing.write_text("20010db8000000000000000000000001 02 40 00 80     eth0\nnonsense\n")
    monkeypatch.setattr(module, "IPV6_INTERFACES", listing)
    found = HostNetwork().interface_addresses()
    assert InterfaceAddress("eth0", IPv6Address("2001:db8::1")) in found
    monkeypatch.setattr(module, "IPV6_INTERFACES", tmp_path / "missing")
    assert all(address.ip.version == 4 for address in HostNetwork().interface_addresses())


async def test_udp_sockets_do_not_block_and_are_of_one_family() -> None:
    network = HostNetwork()
    with network.open_udp(socket.AF_INET, 0) as opened:
        assert not opened.getblocking()
        port = opened.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            network.open_udp(socket.AF_INET, port)


async def test_readiness_calls_back_until_told_not_to() -> None:
    network, calls = HostNetwork(), []
    with network.open_udp(socket.AF_INET, 0) as opened:
        network.watch_readable(opened, lambda: calls.append(opened.recv(100)))
        opened.sendto(b"one", ("127.0.0.1", opened.getsockname()[1]))
        await asyncio.sleep(0.02)
        network.watch_readable(opened, None)
        opened.sendto(b"two", ("127.0.0.1", opened.getsockname()[1]))
        await asyncio.sleep(0.02)
        network.watch_writable(opened, lambda: calls.append(b"room"))
        await asyncio.sleep(0.01)
        network.watch_writable(opened, None)
    assert calls[:2] == [b"one", b"room"]


async def test_connecting_gives_a_byte_stream() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    stream = await HostNetwork().connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
    stream.write(b"hello")
    assert await stream.read() == b"hello"
    assert await stream.read() == b""
    stream.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        await HostNetwork().connect_tcp("127.0.0.1", 1)


async def test_names_resolve_to_addresses_of_the_family() -> None:
    network = HostNetwork()
    assert await network.resolve("127.0.0.1", socket.AF_INET) == ("127.0.0.1",)
    assert await network.resolve("127.0.0.1", socket.AF_INET6) == ()
