"""`POST /verify`: relays ask whether a node key is one of ours. `{"NodePublic","Source"}` → `{"Allow":bool}`.

Source: tailscale tailcfg/derpmap.go (DERPAdmitClientRequest, DERPAdmitClientResponse); headscale hscontrol/handlers.go.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from tailbox.coord.admin.operation import read_body
from tailbox.errors import Invalid, Malformed
from tailbox.wire.control.json import CompleteStruct, WireStruct, decode, encode
from tailbox.wire.keys import NodePublicKey

MAX_BODY_BYTES = 4096  # headscale: verifyBodyLimit


class AdmitClientRequest(WireStruct, frozen=True, kw_only=True):
    """A relay's question."""

    node_public: NodePublicKey
    source: str = ""  # the client's address


class AdmitClientResponse(CompleteStruct, frozen=True, kw_only=True):
    """The answer."""

    allow: bool


class AdmissionPage:
    """The endpoint. Keys are not secret: whoever asks learns only whether a key he knows is one of ours."""

    def __init__(self, knows: Callable[[NodePublicKey], bool]) -> None:
        self._knows = knows

    async def post(self, request: Request) -> Response:
        """Answer one question."""
        try:
            question = decode(AdmitClientRequest, await read_body(request, limit=MAX_BODY_BYTES))
        except (Invalid, Malformed, ClientDisconnect) as error:
            return PlainTextResponse(f"{error}\n", 400)
        answer = AdmitClientResponse(allow=self._knows(question.node_public))
        return Response(encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})
