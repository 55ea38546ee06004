"""The first message is the view, written with JSON that viewers share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tailbox.coord.core.devices import delete_device, rename_device
from tailbox.coord.machine.netmap_renderer import NetmapRenderer
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.json import decode, encode
from tailbox.wire.control.map import MapResponse

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


async def test_the_first_message_is_the_view_for_every_viewer_and_snapshot(lab: Lab) -> None:
    renderer = NetmapRenderer(lab.coord.coordinator, DERPMap(regions={}))
    for number in range(1, 5):
        await lab.add_node(f"host-{number}", number)
    for name in ("first", "second"):
        await lab.coord.coordinator.apply(partial(rename_device, node_id=2, name=name))
        for node_id in (1, 2, 3, 4):
            viewer = renderer.for_node(node_id)
            view = viewer.view()
            assert view is not None
            assert viewer.first(view) == encode(view)


async def test_the_texts_of_nodes_that_are_gone_are_forgotten(lab: Lab) -> None:
    renderer = NetmapRenderer(lab.coord.coordinator, DERPMap(regions={}))
    for number in range(1, 8):
        await lab.add_node(f"host-{number}", number)
    viewer = renderer.for_node(1)
    whole = viewer.view()
    assert whole is not None
    viewer.first(whole)
    for number in range(3, 8):
        await lab.coord.coordinator.apply(partial(delete_device, node_id=number))
    for _ in range(2):
        view = viewer.view()
        assert view is not None
        assert [peer.id for peer in decode(MapResponse, viewer.first(view)).peers] == [2]
    assert len(renderer._peer_json._texts) == 1
