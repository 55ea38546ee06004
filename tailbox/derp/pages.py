"""The relay's plain HTTP answers: latency probes, captive-portal check, and pages for those who look by.

Source: tailscale derp/derpserver/handler.go, cmd/derper/{derper,bootstrap_dns}.go; spec: derp.md §14.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

MAX_CHALLENGE_CHARACTERS = 64  # handler.go
CHALLENGE_ALPHABET = frozenset(string.ascii_letters + string.digits + "._:-")
NO_CACHE = "no-cache, no-store, must-revalidate, no-transform, max-age=0"
BROWSER_HEADERS = {
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Tailbox relay</title></head>
<body style="font-family: sans-serif; max-width: 40em; margin: 3em auto">
<h1>Tailbox relay</h1>
<p>This is a DERP relay: it passes encrypted packets between machines of a tailnet that cannot reach each other
directly. It cannot read them.</p></body></html>
"""


def relay_routes(home_page: str, bootstrap: Callable[[], Mapping[str, Sequence[str]]]) -> list[BaseRoute]:
    """All routes but the WebSocket; `/` only if `home_page` is not "none"."""

    async def bootstrap_dns(request: Request) -> Response:
        return _bootstrap_answer(bootstrap())

    async def home(request: Request) -> Response:
        if home_page in ("page", "blank"):
            return Response(PAGE if home_page == "page" else "", media_type="text/html", headers=BROWSER_HEADERS)
        return RedirectResponse(home_page, 302)

    routes: list[BaseRoute] = [
        Route("/derp/probe", _probe, methods=["GET", "HEAD"]),
        Route("/derp/latency-check", _probe, methods=["GET", "HEAD"]),
        Route("/derp", _upgrade_wanted, methods=_EVERY_METHOD),
        Route("/generate_204", _no_content, methods=_EVERY_METHOD),
        Route("/bootstrap-dns", bootstrap_dns),
        Route("/robots.txt", _robots),
    ]
    return routes if home_page == "none" else [*routes, Route("/", home)]


_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def _probe(request: Request) -> Response:
    """Browsers HEAD, native clients GET, and time it."""
    return Response(headers={"Access-Control-Allow-Origin": "*"})


async def _upgrade_wanted(request: Request) -> Response:
    return PlainTextResponse("DERP requires connection upgrade\n", 426, headers={"Upgrade": "DERP"})


async def _no_content(request: Request) -> Response:
    """Proves to a client that no captive portal answers in our place."""
    headers = {"Cache-Control": NO_CACHE}
    challenge = request.headers.get("x-tailscale-challenge", "")
    if 0 < len(challenge) <= MAX_CHALLENGE_CHARACTERS and set(challenge) <= CHALLENGE_ALPHABET:
        headers["X-Tailscale-Response"] = f"response {challenge}"
    return Response(status_code=204, headers=headers)


async def _robots(request: Request) -> Response:
    return PlainTextResponse("User-agent: *\nDisallow: /\n", headers=BROWSER_HEADERS)


def _bootstrap_answer(addresses: Mapping[str, Sequence[str]]) -> Response:
    body = json.dumps({name: list(found) for name, found in addresses.items()}, indent="\t") if addresses else ""
    return Response(body, media_type="application/json", headers={**BROWSER_HEADERS, "Connection": "close"})
