"""What a change costs a coordinator: N viewers with open map streams, one of them is renamed, again and again.

`python -m bench.coordinator [--viewers 200] [--renames 20] [--profile]` runs the role's own map streams in one process,
without sockets: drawing, difference, JSON, zstd. Prints CPU time of one rename and of one viewer's message, and the
time until the last viewer has been told (the 75 ms in which changes are gathered included).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tailbox.coord.app import Coord, open_coord
from tailbox.coord.config import CoordConfig, EmbeddedRelay
from tailbox.coord.core.checkin import check_in
from tailbox.coord.core.devices import rename_device
from tailbox.coord.core.registration import Registrar
from tailbox.wire.control.framing import encode_frame
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.node import Hostinfo, NetInfo
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest
from tailbox.wire.keys import DiscoPublicKey, MachinePublicKey, NodePublicKey


class Viewers:
    """Open map streams of every node, which count what they are told."""

    def __init__(self, coord: Coord) -> None:
        self._coord = coord
        self._told = 0
        self._wanted = 0
        self._all_told = asyncio.Event()
        self.last_bytes = 0
        self.tasks = [
            asyncio.create_task(self._follow(node_id), name=f"viewer {node_id}")
            for node_id in coord.coordinator.tailnet.nodes
        ]

    async def _follow(self, node_id: int) -> None:
        streams = self._coord._streams
        renderer = self._coord.renderer.for_node(node_id)
        await streams.run(streams.open(node_id), renderer, self._write, wants_keep_alive=False)

    async def _write(self, payload: bytes) -> None:
        self.last_bytes = len(encode_frame(payload, compress=True))
        self._told += 1
        if self._told == self._wanted:
            self._all_told.set()

    def expect(self) -> None:
        """Call it before what changes: every viewer shall have one message more."""
        self._wanted = self._told + len(self.tasks)
        self._all_told.clear()

    async def all_told(self) -> None:
        """Until they have it."""
        await self._all_told.wait()


async def enrol(coord: Coord, count: int) -> None:
    """Nodes as they are after their first minute: with endpoints, home relay and disco key."""
    auth = RegisterAuth(auth_key=await coord.create_auth_key(is_reusable=True))
    registrar = Registrar(coord.coordinator.random, str)
    for number in range(1, count + 1):
        key, machine = NodePublicKey(number.to_bytes(32, "big")), MachinePublicKey(number.to_bytes(32, "big"))
        hostinfo = Hostinfo(hostname=f"host-{number}", os="linux", net_info=NetInfo(preferred_derp=900))
        request = RegisterRequest(version=113, node_key=key, auth=auth, hostinfo=hostinfo)
        await coord.coordinator.apply(partial(registrar.register, request=request, machine_key=machine))
        update = MapRequest(
            version=113, node_key=key, omit_peers=True, hostinfo=hostinfo,
            disco_key=DiscoPublicKey(number.to_bytes(32, "big")),
            endpoints=(f"192.0.2.1:{number}", f"10.0.0.1:{number}", f"[2001:db8::1]:{number}"),
        )  # fmt: skip
        await coord.coordinator.apply(partial(check_in, request=update, machine_key=machine))


async def measure(viewers: int, renames: int, directory: Path, profile: cProfile.Profile | None) -> tuple[str, ...]:
    config = CoordConfig(
        state_directory=directory, server_url="http://127.0.0.1:8080", relay=EmbeddedRelay("127.0.0.1", 3340)
    )
    coord = await open_coord(config)
    assert coord.service.lifespan is not None
    async with coord.service.lifespan():
        await enrol(coord, viewers)
        started_at = time.process_time()
        watching = Viewers(coord)
        watching.expect()
        await watching.all_told()
        first_s = time.process_time() - started_at
        if profile is not None:
            profile.enable()
        cpu_at, wall_at = time.process_time(), time.perf_counter()
        for number in range(renames):
            watching.expect()
            await coord.coordinator.apply(partial(rename_device, node_id=1, name=f"renamed-{number}"))
            await watching.all_told()
        cpu_s, wall_s = time.process_time() - cpu_at, time.perf_counter() - wall_at
        if profile is not None:
            profile.disable()
    await asyncio.gather(*watching.tasks)
    return (
        f"{viewers} viewers, {renames} renames; a message of {watching.last_bytes} bytes (zstd)",
        f"first maps: {first_s * 1000:8.1f} ms CPU for all",
        f"one rename: {cpu_s / renames * 1000:8.1f} ms CPU, {wall_s / renames * 1000:.1f} ms until the last is told",
        f"one message: {cpu_s / renames / viewers * 1e6:7.1f} µs CPU",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a change costs a coordinator with many map streams open.")
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--renames", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    options = parser.parse_args()
    profile = cProfile.Profile() if options.profile else None
    with tempfile.TemporaryDirectory() as directory:
        lines = asyncio.run(measure(options.viewers, options.renames, Path(directory), profile))
    sys.stdout.write("\n".join(lines) + "\n")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
