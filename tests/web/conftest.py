"""A coordinator with the built console, nodes that join it, and a browser that notes whatever it complains about."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailbox import Node
from tailbox.coord.admin.console_bundle import find_bundle
from tailbox.server import ServerConfig, Tailnet, start_server

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_S = 20.0  # for a node to come up or a page to show something; loaded machines are slow
REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class ConsoleLab:
    """The tailnet and the browser. `complaints` are console errors, exceptions and CSP violations of all pages."""

    tailnet: Tailnet
    browser: BrowserContext
    directory: Path
    stack: AsyncExitStack
    complaints: list[str] = field(default_factory=list)

    @property
    def api_token(self) -> str:
        return (self.directory / "server" / "coord" / "admin-token").read_text().strip()

    async def start_node(self, hostname: str, *, auth_key: str = "") -> Node:
        """A node that has begun to join."""
        node = Node(
            login_server=self.tailnet.url,
            auth_key=auth_key,
            hostname=hostname,
            state_dir=self.directory / hostname,
            include_loopback=True,
        )
        return await self.stack.enter_async_context(node)

    async def add_node(self, hostname: str) -> Node:
        """A node that is up."""
        node = await self.start_node(hostname, auth_key=await self.tailnet.create_auth_key())
        await node.wait_running(WAIT_S)
        return node

    async def open_page(self, url: str) -> Page:
        """A page whose complaints are noted."""
        page = await self.browser.new_page()
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        await page.goto(url)
        return page

    async def sign_in(self) -> Page:
        """The machines page, by the one-time link."""
        page = await self.open_page(self.tailnet.sign_in_link())
        await page.wait_for_url("**/admin/machines")
        await page.get_by_text("live", exact=True).wait_for()
        return page

    def _note(self, message: ConsoleMessage) -> None:
        url = str(message.location.get("url", ""))
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({url})")


def row(page: Page, name: str) -> Locator:
    """The row of a machine by its short name."""
    return page.locator("tbody tr").filter(has=page.locator("strong", has_text=name))


async def choose(page: Page, name: str, entry: str) -> None:
    """An entry of a machine's menu."""
    await page.get_by_role("button", name=f"Actions for {name}").click()
    await page.get_by_role("menuitem", name=entry).click()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ConsoleLab]:
    """Everything above; at the end the browser must have had nothing to complain about."""
    playwright = pytest.importorskip("playwright.async_api", reason="the Python package playwright is not installed")
    chromium = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    if find_bundle() is None:
        pytest.skip("the console is not built: cd web && npm ci && npm run build")
    async with AsyncExitStack() as stack:
        tailnet = await stack.enter_async_context(
            await start_server(ServerConfig.for_this_process(tmp_path / "server"))
        )
        driver = await stack.enter_async_context(playwright.async_playwright())
        program = await driver.chromium.launch(executable_path=chromium)
        stack.push_async_callback(program.close)
        browser = await program.new_context()
        await browser.add_init_script(REPORT_VIOLATIONS)
        found = ConsoleLab(tailnet, browser, tmp_path, stack)
        yield found
        await browser.close()
    assert found.complaints == []
