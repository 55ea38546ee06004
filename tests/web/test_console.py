"""The console in a real browser, against a real coordinator and real nodes."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.web.conftest import WAIT_S, choose, row

if TYPE_CHECKING:
    from tests.web.conftest import ConsoleLab

pytestmark = [pytest.mark.web, pytest.mark.slow]


async def test_a_one_time_link_signs_in_once_and_the_machines_are_there(lab: ConsoleLab) -> None:
    alpha, _beta = await lab.add_node("alpha"), await lab.add_node("beta")
    link = lab.tailnet.sign_in_link()
    page = await lab.open_page(link)
    await page.wait_for_url("**/admin/machines")
    assert await page.title() == "Machines · Tailbox"
    await page.get_by_text("2 in the tailnet, 2 connected").wait_for()
    shown = await row(page, "alpha").inner_text()
    for address in alpha.addresses:
        assert str(address) in shown
    await row(page, "beta").get_by_text(re.compile(r"relay [A-Z].*, .* ms")).wait_for()
    await row(page, "beta").get_by_text("direct endpoint").wait_for()

    await lab.browser.clear_cookies()
    again = await lab.open_page(link)
    await again.get_by_role("alert").get_by_text("this sign-in link is not valid").wait_for()
    lab.complaints[:] = [text for text in lab.complaints if "401" not in text]  # the refusal itself


async def test_changes_show_without_a_reload(lab: ConsoleLab) -> None:
    alpha = await lab.add_node("alpha")
    page, other = await lab.sign_in(), await lab.sign_in()
    await choose(page, "alpha", "Edit machine name…")
    await page.get_by_role("textbox", name="Name").fill("gamma")
    await page.get_by_role("button", name="Save").click()
    await row(page, "gamma").wait_for()
    await row(other, "gamma").wait_for()  # by the event stream alone

    await choose(page, "gamma", "Edit tags…")
    await page.get_by_role("textbox", name="Tags").fill("ci")
    await page.get_by_role("button", name="Save").click()
    await row(other, "gamma").get_by_text("tag:ci").wait_for()
    await row(other, "gamma").get_by_text("Expiry disabled").wait_for()

    await alpha.close()
    await page.get_by_text("1 in the tailnet, 0 connected").wait_for()


async def test_a_login_without_a_key_waits_for_the_console(lab: ConsoleLab) -> None:
    page = await lab.sign_in()
    await page.get_by_text("No machines yet.").wait_for()
    laptop = await lab.start_node("laptop")
    await page.get_by_role("button", name="Approve laptop").click()
    await laptop.wait_running(WAIT_S)
    await row(page, "laptop").get_by_text("Connected").wait_for()
    assert await page.get_by_text("wants to join").count() == 0

    stranger = await lab.start_node("stranger")
    first = await anext(stranger.auth_urls())
    refuse = page.get_by_role("button", name="Refuse stranger")
    await refuse.click()
    await refuse.wait_for(state="detached")
    await asyncio.sleep(1)  # it asks again by itself, and hears that it was refused
    assert await refuse.count() == await row(page, "stranger").count() == 0
    gone = await lab.open_page(first)
    await gone.get_by_role("heading", name="Login expired").wait_for()
    lab.complaints[:] = [text for text in lab.complaints if "410" not in text]


async def test_a_login_is_approved_on_the_page_that_the_node_prints(lab: ConsoleLab) -> None:
    await lab.sign_in()
    phone = await lab.start_node("phone")
    page = await lab.open_page(await anext(phone.auth_urls()))
    await page.get_by_text("phone").wait_for()
    await page.get_by_role("button", name="Let it join").click()
    await page.get_by_role("heading", name="Device joined").wait_for()
    await phone.wait_running(WAIT_S)


async def test_a_key_made_here_lets_a_machine_join(lab: ConsoleLab) -> None:
    page = await lab.sign_in()
    await page.get_by_role("link", name="Keys").click()
    await page.get_by_role("button", name="Make an auth key…").click()
    await page.get_by_label("Description").fill("from the console")
    await page.get_by_role("button", name="Make key").click()
    command = await page.locator(".made pre").inner_text()
    assert command.startswith(f"tailbox up --login-server {lab.tailnet.url} --auth-key tskey-auth-")
    node = await lab.start_node("newcomer", auth_key=command.split()[-1])
    await node.wait_running(WAIT_S)
    key = page.locator("tbody tr").filter(has_text="from the console")
    await key.get_by_text("used up").wait_for()
    await page.reload()
    await key.wait_for()
    assert "tskey-auth-" not in await page.content()

    await page.get_by_role("button", name="Make an API token…").click()
    await page.get_by_label("Description").fill("a program")
    await page.get_by_role("button", name="Make token").click()
    assert (await page.locator(".made pre").inner_text()).startswith("tskey-api-")
    token = page.locator("tbody tr").filter(has_text="a program")
    await token.get_by_role("button", name="Revoke").click()
    await page.get_by_role("button", name="Revoke", exact=True).click()
    await token.get_by_text("revoked").wait_for()


async def test_a_machine_is_expired_and_removed_once_that_is_confirmed(lab: ConsoleLab) -> None:
    await lab.add_node("alpha")
    page = await lab.sign_in()
    await choose(page, "alpha", "Disable key expiry")
    await row(page, "alpha").get_by_text("Expiry disabled").wait_for()
    await choose(page, "alpha", "Expire key…")
    await page.get_by_role("button", name="Cancel").click()
    assert await row(page, "alpha").get_by_text("Expired").count() == 0
    await choose(page, "alpha", "Expire key…")
    await page.get_by_role("button", name="Expire key", exact=True).click()
    await row(page, "alpha").get_by_text("Expired", exact=True).wait_for()
    await choose(page, "alpha", "Remove…")
    await page.get_by_role("button", name="Remove machine").click()
    await page.get_by_text("No machines yet.").wait_for()
    assert lab.tailnet.coord is not None
    assert not lab.tailnet.coord.coordinator.tailnet.nodes


async def test_an_api_token_signs_in_and_signing_out_ends_the_session(lab: ConsoleLab) -> None:
    page = await lab.open_page(f"{lab.tailnet.url}/admin/keys")
    await page.get_by_label("API access token").fill(lab.api_token)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/admin/keys")  # where it wanted to go
    await page.get_by_text("commands on this machine").wait_for()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("API access token").wait_for()
    await page.goto(f"{lab.tailnet.url}/admin/machines")
    await page.get_by_label("API access token").wait_for()
    lab.complaints[:] = [text for text in lab.complaints if "401" not in text]  # what asking without a session gets


async def test_the_menus_and_dialogs_are_worked_with_the_keyboard(lab: ConsoleLab) -> None:
    await lab.add_node("alpha")
    page = await lab.sign_in()
    button = page.get_by_role("button", name="Actions for alpha")
    await button.focus()
    for key in ("Enter", "Enter"):  # opens the menu, chooses its first entry
        await page.keyboard.press(key)
    await page.get_by_role("dialog", name="Edit machine name").wait_for()
    await page.keyboard.press("ControlOrMeta+A")
    await page.keyboard.type("delta")
    await page.keyboard.press("Enter")
    await row(page, "delta").wait_for()
    await page.get_by_role("button", name="Actions for delta").press("Enter")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Escape")
    await page.get_by_role("dialog").wait_for(state="detached")
    assert await page.evaluate("document.activeElement.ariaLabel") == "Actions for delta"


async def test_an_inline_script_is_refused_and_noted(lab: ConsoleLab) -> None:
    page = await lab.sign_in()
    async with page.expect_console_message(lambda message: "CSP violation" in message.text):
        await page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked = 1'}))"
        )
    assert await page.evaluate("window.hacked") is None
    assert lab.complaints
    lab.complaints.clear()
