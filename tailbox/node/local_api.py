"""LocalAPI: HTTP on a unix socket, in upstream's paths and shapes, for our command line and the real one.

The socket's mode is 0600: whoever can open it may do everything, which replaces upstream's world-readable socket
with checks of peer credentials. Source: tailscale ipn/localapi/localapi.go, ipn/ipnlocal/bus.go; LocalAPI
reference §6 to §9.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from tailbox.errors import ConfigError, TailboxError
from tailbox.node.backend import Backend
from tailbox.node.config import MAX_UNIX_SOCKET_PATH_BYTES
from tailbox.node.core.control_session import LoginRefused, VisitUrl
from tailbox.node.core.status import BackendState, JsonObject, node_json
from tailbox.node.events import NetmapChanged, PrefsChanged, StateChanged
from tailbox.node.host_information import VERSION_TEXT
from tailbox.node.local_dial import dial
from tailbox.node.metrics import NodeMetrics
from tailbox.node.prefs import masked_changes, prefs_json
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.service import Address as ListenAddress
from tailbox.runtime.service import Listen, RunningServer, Service, serve
from tailbox.runtime.status_routes import Health
from tailbox.runtime.upgrade import UpgradeHandler, UpgradeRequest, refuse
from tailbox.wire.control.capability import CURRENT_VERSION
from tailbox.wire.control.json import to_builtins

if TYPE_CHECKING:
    from tailbox.node.node import Node

PREFIX = "/localapi/v0/"
LOCAL_HOST = "local-tailscaled.sock"
MAX_BODY_BYTES = 4 * 1024 * 1024  # ours
MAX_WATCHERS = 64  # ours
PING_TIMEOUT_S = 60.0  # ours: the command line gives up long before, by closing the request
BUS_INITIAL_STATE, BUS_INITIAL_PREFS, BUS_INITIAL_NETMAP, BUS_INITIAL_STATUS = 2, 4, 8, 16384  # ipn.NotifyWatchOpt
HEADERS = {
    "Tailscale-Version": VERSION_TEXT,
    "Tailscale-Cap": str(CURRENT_VERSION),
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; script-src 'none'; script-src-elem 'none'; "
    "script-src-attr 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[Request], Awaitable[Response]]


class LocalApi:
    """The endpoints of one node."""

    def __init__(self, node: Node, backend: Backend) -> None:
        self._node = node
        self._backend = backend
        self._metrics = NodeMetrics(backend)
        self._servers: list[RunningServer] = []
        self._watchers = 0
        self._closing = asyncio.Event()

    async def start(self, socket: Path | None, metrics_listen: str = "") -> None:
        """Listen where wanted. Raises ConfigError, ListenError."""
        if socket is not None:
            if len(str(socket).encode()) > MAX_UNIX_SOCKET_PATH_BYTES:
                raise ConfigError("socket", str(socket), f"longer than {MAX_UNIX_SOCKET_PATH_BYTES} bytes")
            socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            service = self.service(self.routes(), upgrades={PREFIX + "dial": self._dial})
            self._servers.append(await serve([service], listen=[Listen(socket)]))
        if metrics_listen:
            at = ListenAddress.parse(metrics_listen)
            self._servers.append(await serve([self.service(())], listen=[Listen(at)]))

    async def close(self) -> None:
        self._closing.set()
        for server in self._servers:
            await server.stop()

    def service(
        self, routes: tuple[BaseRoute, ...], *, upgrades: Mapping[str, UpgradeHandler] = MappingProxyType({})
    ) -> Service:
        return Service("node", routes=routes, upgrades=upgrades, registry=self._metrics.registry, health=self._health)

    def routes(self) -> tuple[BaseRoute, ...]:
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "status", self._status),
            ("GET", "prefs", self._prefs),
            ("PATCH", "prefs", self._patch_prefs),
            ("POST", "check-prefs", self._check_prefs),
            ("POST", "start", self._start),
            ("POST", "login-interactive", self._login_interactive),
            ("POST", "logout", self._logout),
            ("GET", "watch-ipn-bus", self._watch),
            ("POST", "ping", self._ping),
            ("GET", "whois", self._whois),
            ("GET", "derpmap", self._derp_map),
            ("GET", "netcheck", self._netcheck),
            ("GET", "serve-config", self._constant({})),
            ("GET", "check-ip-forwarding", self._constant({"Warning": ""})),
            ("GET", "check-udp-gro-forwarding", self._constant({"Warning": ""})),
            ("GET", "check-so-mark-in-use", self._constant({"UseSOMark": True})),
            ("GET", "services", self._constant({})),
            ("GET", "tka/status", self._constant({"Enabled": False})),
            ("POST", "upload-client-metrics", self._constant({})),
            ("GET", "profiles/", self._profiles),
            ("GET", "profiles/current", self._profile),
            ("PUT", "profiles/", self._new_profile),
            ("GET", "usermetrics", self._usermetrics),
            ("GET", "dns-config", self._dns_config),
            ("POST", "debug", self._debug),
        )
        routes: list[BaseRoute] = [Route("/", self._guarded(self._root), methods=["GET"])]
        for method, path, handler in table:
            routes.append(Route(PREFIX + path, self._guarded(handler), methods=[method]))
        return tuple(routes)

    # Around every endpoint.

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if _is_foreign(request.headers):
                return PlainTextResponse("invalid localapi request\n", status_code=403, headers=HEADERS)
            try:
                response = await handler(request)
            except (TailboxError, ValueError) as error:
                response = JSONResponse({"error": str(error)}, status_code=400)
            except (OSError, RuntimeError) as error:
                response = JSONResponse({"error": str(error) or type(error).__name__}, status_code=500)
            response.headers.update(HEADERS)
            return response

        return guarded

    async def _body(self, request: Request) -> JsonObject:
        """A JSON object, whatever the Content-Type. Raises ValueError."""
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > MAX_BODY_BYTES:
                raise ValueError("request too large")
        try:
            found = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("not JSON") from None
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found

    def _health(self) -> Health:
        state = self._backend.state
        return Health(is_healthy=bool(self._node.addresses), details={"state": state.text})

    # Endpoints.

    async def _root(self, request: Request) -> Response:
        return PlainTextResponse("tailscaled\n")

    async def _status(self, request: Request) -> Response:
        with_peers = request.query_params.get("peers", "true") != "false"
        return _json(self._node.status().to_json(with_peers=with_peers))

    async def _prefs(self, request: Request) -> Response:
        return _json(prefs_json(self._backend))

    async def _patch_prefs(self, request: Request) -> Response:
        await self._apply(await self._body(request))
        return _json(prefs_json(self._backend))

    async def _check_prefs(self, request: Request) -> Response:
        await self._body(request)
        return JSONResponse({})

    async def _start(self, request: Request) -> Response:
        options = await self._body(request)
        prefs = options.get("UpdatePrefs")
        if isinstance(prefs, dict):
            wanted = prefs.get("ControlURL")
            if wanted not in (None, "", self._backend.state_on_disk.login_server):
                raise ValueError("this node belongs to another login server: start a node with another state directory")
            await self._apply({**prefs, "WantRunningSet": True, "HostnameSet": bool(prefs.get("Hostname"))})
        auth_key = options.get("AuthKey")
        if isinstance(auth_key, str) and auth_key:
            self._backend.login(auth_key=auth_key)
        else:
            self._backend.session.forget_auth_key()
        # Upstream starts anew here; who waits on the bus for the state to become Running must hear that it is.
        self._backend.publish(StateChanged(self._backend.state))
        return Response(status_code=204)

    async def _login_interactive(self, request: Request) -> Response:
        running = self._backend.state is BackendState.RUNNING
        self._backend.login(force=running)
        return Response(status_code=204)

    async def _logout(self, request: Request) -> Response:
        await self._backend.logout()
        return Response(status_code=204)

    async def _ping(self, request: Request) -> Response:
        query = request.query_params
        kind = query.get("type", "disco")
        if kind.lower() not in ("disco", "tsmp", "icmp"):
            raise ValueError(f"ping type {kind!r} is not supported")
        result = await self._node.ping(query.get("ip", ""), kind=kind, timeout_s=PING_TIMEOUT_S)
        return JSONResponse(result.to_json())

    async def _whois(self, request: Request) -> Response:
        found = self._node.whois(request.query_params.get("addr", ""))
        if found is None:
            return PlainTextResponse("no match for IP:port\n", status_code=404)
        return _json(found.to_json())

    async def _derp_map(self, request: Request) -> Response:
        netmap = self._backend.netmap
        return _json(to_builtins(netmap.derp_map) if netmap else None)

    async def _netcheck(self, request: Request) -> Response:
        """Ours: a fresh report, measured on the node's own sockets."""
        return _json(await self._backend.measure())

    async def _dns_config(self, request: Request) -> Response:
        netmap = self._backend.netmap
        if netmap is None:
            return PlainTextResponse("no netmap\n", status_code=503)
        return _json(to_builtins(netmap.dns))

    async def _profiles(self, request: Request) -> Response:
        return _json([self._profile_json()])

    async def _profile(self, request: Request) -> Response:
        return _json(self._profile_json())

    async def _new_profile(self, request: Request) -> Response:
        raise ValueError("one node has one profile: start a node with another state directory")

    async def _usermetrics(self, request: Request) -> Response:
        return PlainTextResponse(self._metrics.text())

    async def _debug(self, request: Request) -> Response:
        action = request.query_params.get("action", "")
        if action == "current-netmap":
            return _json(self._netmap_json())
        if action == "restun":
            self._backend.netcheck.request(full=True)
        elif action == "rebind":
            await self._backend.rebind()
        else:
            raise ValueError(f"unknown action {action!r}")
        return PlainTextResponse("done\n")

    async def _dial(self, request: UpgradeRequest, stream: ByteStream) -> None:
        if _is_foreign(request.headers):
            stream.write(refuse(403, "invalid localapi request\n"))
        else:
            await dial(self._node, request, stream)

    def _constant(self, value: JsonObject) -> Handler:
        async def answer(request: Request) -> Response:
            return JSONResponse(value)

        return answer

    # The bus.

    async def _watch(self, request: Request) -> Response:
        mask = int(request.query_params.get("mask", "0"))
        if self._watchers >= MAX_WATCHERS:
            return PlainTextResponse("too many watchers\n", status_code=503)
        return StreamingResponse(self._notifications(mask), media_type="application/json")

    async def _notifications(self, mask: int) -> AsyncIterator[bytes]:
        self._watchers += 1
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            with self._backend.events.subscribe() as subscription:
                yield _line(self._first_notify(mask))
                told_key = self._backend.public_key.text
                while not self._closing.is_set():
                    coming = asyncio.ensure_future(anext(subscription))
                    try:
                        await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
                    finally:  # the watcher may have gone meanwhile
                        if not coming.done():
                            coming.cancel()
                    if coming.cancelled() or not coming.done():
                        return
                    if subscription.lost:
                        return  # a watcher that does not keep up is disconnected, as upstream does
                    notify = self._notify_of(coming.result().event)
                    if notify is None:
                        continue
                    change = notify.get("SelfChange")
                    if isinstance(change, dict) and change["Key"] != told_key:
                        told_key = change["Key"]
                        notify["NetMap"] = self._netmap_json()  # `up --force-reauth` before 1.100 reads the key there
                    yield _line(notify)
        finally:
            closing.cancel()
            self._watchers -= 1

    def _first_notify(self, mask: int) -> JsonObject:
        notify: JsonObject = {"SessionID": self._backend.random.bytes(8).hex()}
        if mask & BUS_INITIAL_STATE:
            notify["State"] = int(self._backend.state)
            notify["BrowseToURL"] = self._backend.session.auth_url or None
        if mask & BUS_INITIAL_PREFS:
            notify["Prefs"] = prefs_json(self._backend)
        if mask & BUS_INITIAL_NETMAP and self._backend.netmap is not None:
            notify["NetMap"] = self._netmap_json()
            notify["SelfChange"] = node_json(self._backend.netmap.self_node)
        if mask & BUS_INITIAL_STATUS:
            notify["InitialStatus"] = self._node.status().to_json()
        return notify

    def _notify_of(self, event: object) -> JsonObject | None:
        if isinstance(event, StateChanged):
            return {"State": int(event.state)}
        if isinstance(event, VisitUrl):
            return {"BrowseToURL": event.url}
        if isinstance(event, LoginRefused):
            return {"ErrMessage": event.why}
        if isinstance(event, PrefsChanged):
            return {"Prefs": prefs_json(self._backend)}
        if isinstance(event, NetmapChanged) and self._backend.netmap is not None:
            return {"SelfChange": node_json(self._backend.netmap.self_node)}
        return None

    async def _apply(self, masked: JsonObject) -> None:
        changes = masked_changes(masked, self._backend.config)
        if changes.hostname is not None:
            self._backend.set_hostname(changes.hostname)
        if changes.config != self._backend.config:
            self._backend.set_config(changes.config)
        if changes.want_running is True:
            self._backend.up()
        elif changes.want_running is False:
            await self._backend.down()
        self._backend.publish(PrefsChanged())

    def _netmap_json(self) -> JsonObject | None:
        netmap = self._backend.netmap
        if netmap is None:
            return None
        return {
            "SelfNode": node_json(netmap.self_node),
            "NodeKey": netmap.self_node.key.text,
            "Name": netmap.self_node.name,
            "Domain": netmap.domain,
            "Peers": [node_json(peer) for peer in netmap.peers.values()],
            "DNS": to_builtins(netmap.dns),
            "DERPMap": to_builtins(netmap.derp_map),
            "PacketFilterRules": to_builtins(netmap.rules),
            "UserProfiles": {str(user.id): to_builtins(user) for user in netmap.users.values()},
        }

    def _profile_json(self) -> JsonObject:
        state, netmap = self._backend.state_on_disk, self._backend.netmap
        owner = netmap.users.get(netmap.self_node.user) if netmap else None
        return {
            "ID": "7a11",
            "Name": owner.login_name if owner else "default",
            "NetworkProfile": {
                "MagicDNSName": netmap.suffix if netmap else "",
                "DomainName": state.tailnet,
                "DisplayName": "",
            },
            "Key": "profile-7a11",
            "UserProfile": to_builtins(owner) if owner else {"ID": 0},
            "NodeID": netmap.self_node.stable_id if netmap else "",
            "LocalUserID": "",
            "ControlURL": state.login_server,
        }


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser may have been talked into this request. Names are lower case."""
    return "referer" in headers or "origin" in headers or headers.get("host", "") not in ("", LOCAL_HOST)


def _json(value: object) -> Response:
    """Tab-indented, as upstream's."""
    return Response(json.dumps(value, indent="\t", ensure_ascii=False) + "\n", media_type="application/json")


def _line(notify: JsonObject) -> bytes:
    """One Notify; members without upstream's omit tag are null when unset."""
    always = ("ErrMessage", "LoginFinished", "State", "Prefs", "NetMap", "Engine", "BrowseToURL", "DriveShares")
    whole = {"Version": VERSION_TEXT, **dict.fromkeys(always), **notify}
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"
