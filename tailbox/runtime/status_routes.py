"""`/healthz` and `/metrics` of a process: every service that runs in it, on one page each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself. `details` is shown to anybody who asks: no secrets, no names."""

    is_healthy: bool = True
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Observable(Protocol):
    """The part of a service that these pages show."""

    @property
    def name(self) -> str: ...
    @property
    def registry(self) -> CollectorRegistry | None: ...
    @property
    def health(self) -> Callable[[], Health]: ...


def status_routes(services: Sequence[Observable]) -> list[Route]:
    """The two routes. A health check that raises counts as unhealthy."""

    async def healthz(_request: Request) -> Response:
        states = {service.name: _health_of(service) for service in services}
        healthy = all(state.is_healthy for state in states.values())
        body = {
            "status": "ok" if healthy else "unhealthy",
            "services": {
                name: {"status": "ok" if state.is_healthy else "unhealthy", **state.details}
                for name, state in states.items()
            },
        }
        return JSONResponse(body, status_code=200 if healthy else 503, headers={"Cache-Control": "no-store"})

    async def metrics(_request: Request) -> Response:
        # Services of one process may share a registry, which must appear once.
        registries = {id(service.registry): service.registry for service in services if service.registry is not None}
        body = b"".join(generate_latest(registry) for registry in registries.values())
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def _health_of(service: Observable) -> Health:
    try:
        return service.health()
    except Exception as error:  # whatever breaks a health check is a reason to be unhealthy
        return Health(is_healthy=False, details={"error": type(error).__name__})
