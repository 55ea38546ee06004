"""The console's files: served, never from outside their directory."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tailbox.coord.admin import console_bundle
from tailbox.coord.admin.console import ConsolePages, favicon, file_below
from tailbox.coord.admin.pages import html_page
from tailbox.randomness import SeededRandom


def client(directory: Path | None) -> httpx.AsyncClient:
    pages = ConsolePages(SeededRandom(1), directory=directory)
    app = Starlette(routes=[Route("/admin/{path:path}", pages.get), Route("/favicon.ico", favicon)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://box")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "dist"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<!doctype html><title>console</title>")
    (directory / "assets" / "index-1a2b.js").write_text("1;")
    (directory / "icon.svg").write_text("<svg/>")
    (tmp_path / "secret").write_text("secret")
    (directory / "link").symlink_to(tmp_path / "secret")
    return directory


async def test_routes_of_the_browser_get_the_same_page(bundle: Path) -> None:
    async with client(bundle) as browser:
        for path in ("/admin/", "/admin/machines", "/admin/machines/n1", "/admin/index.html"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert "<title>console</title>" in answer.text
            assert answer.headers["cache-control"] == "no-cache"
            assert "unsafe-inline" not in answer.headers["content-security-policy"]


async def test_assets_are_cached_for_ever_and_missing_ones_are_missing(bundle: Path) -> None:
    async with client(bundle) as browser:
        asset = await browser.get("/admin/assets/index-1a2b.js")
        assert (asset.text, "immutable" in asset.headers["cache-control"]) == ("1;", True)
        assert asset.headers["content-type"].startswith("text/javascript")
        assert (await browser.get("/admin/assets/gone.js")).status_code == 404
        assert (await browser.head("/admin/icon.svg")).headers["content-length"] == "6"


@pytest.mark.parametrize(
    "path", ["../secret", "link", "assets/../../secret", "/etc/passwd", "a\0b", "", "assets", "x" * 5000]
)
def test_nothing_outside_the_directory_is_found(bundle: Path, path: str) -> None:
    assert file_below(bundle, path) is None


async def test_without_a_bundle_a_page_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(console_bundle, "PACKAGED", tmp_path / "no")
    monkeypatch.setattr(console_bundle, "CHECKOUT", tmp_path / "neither")
    async with client(None) as browser:
        answer = await browser.get("/admin/")
        icon = await browser.get("/favicon.ico")
    assert answer.status_code == 200
    assert "npm run build" in answer.text
    assert '<link rel="icon" href="data:,">' in answer.text
    assert icon.status_code == 204


async def test_pages_name_the_icon_of_the_console(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_bundle, "PACKAGED", bundle)
    (bundle / "favicon.svg").write_text("<svg/>")
    page = html_page("A page", "", nonce="0")
    assert b'<link rel="icon" href="/admin/favicon.svg">' in page.body
    async with client(None) as browser:
        icon = await browser.get("/favicon.ico", follow_redirects=True)
    assert (icon.status_code, icon.text) == (200, "<svg/>")
    assert icon.headers["content-type"].startswith("image/svg+xml")
