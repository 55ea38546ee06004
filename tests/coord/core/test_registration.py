"""The registration state machine, case by case (control reference §5.3, §5.4, §5.6)."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from tailbox.coord.core.auth_keys import revoke_auth_key
from tailbox.coord.core.devices import expire_device, rename_device
from tailbox.coord.core.pending_logins import (
    LIFETIME_S,
    MAX_PENDING,
    MAX_REFUSED,
    REFUSED_S,
    approve_login,
    refuse_login,
)
from tailbox.coord.core.records import DAY_S, Role
from tailbox.coord.core.settings import update_settings
from tailbox.coord.core.users import create_user, suspend_user
from tailbox.errors import Conflict, Forbidden, NotFound
from tests.coord.core.world import LOGIN_URL, World, key, machine


def test_a_valid_auth_key_makes_a_node(world: World) -> None:
    created = world.auth_key()
    answer = world.register(1, 1, auth=created.text, hostname="Laptop.local")
    node = world.node(1)
    assert (answer.response.error, answer.response.auth_url, answer.wait_for) == ("", "", None)
    assert answer.response.machine_authorized
    assert answer.response.user.id == answer.response.login.id == world.owner.id
    assert answer.response.login.login_name == "alice@example.com"
    assert (node.name, node.ipv4, node.ipv6) == ("laptop", "100.64.0.1", "fd7a:115c:a1e0::1")
    assert node.key_expires_unix_s == world.now + 180 * DAY_S
    assert world.tailnet.auth_keys[created.id].uses == 1


def test_the_key_is_spent_in_the_change_that_makes_the_node(world: World) -> None:
    created = world.auth_key()
    world.register(1, 1, auth=created.text)
    assert world.change.nodes == {world.node(1).id}
    assert world.change.auth_keys == {created.id}
    assert world.change.has_counters


def test_a_one_off_key_makes_one_node_only(world: World) -> None:
    created = world.auth_key()
    world.register(1, 1, auth=created.text)
    assert world.register(2, 2, auth=created.text).response.error == "authkey already used"
    assert len(world.tailnet.nodes) == 1


def test_the_node_that_used_a_one_off_key_may_show_it_again(world: World) -> None:
    # Containers resend their key at each start: pitfall 32
    created = world.auth_key()
    world.register(1, 1, auth=created.text)
    before = world.tailnet
    answer = world.register(1, 1, auth=created.text)
    assert answer.response.error == ""
    assert answer.response.machine_authorized
    assert world.tailnet == before


def test_a_used_one_off_key_does_not_revive_an_expired_node(world: World) -> None:
    created = world.auth_key()
    world.register(1, 1, auth=created.text)
    world.now += 181 * DAY_S
    assert world.register(1, 1, auth=created.text).response.error == "authkey expired"


def test_a_reusable_key_makes_many_nodes(world: World) -> None:
    created = world.auth_key(is_reusable=True)
    for number in range(1, 5):
        assert world.register(number, number, auth=created.text).response.error == ""
    assert [node.name for node in world.tailnet.nodes.values()] == ["host", "host-1", "host-2", "host-3"]


@pytest.mark.parametrize("text", ["wrong", "tskey-auth-k1-x", "tskey-api-k1-x", "tskey-auth-", "é" * 40, "x" * 100_000])
def test_a_made_up_key_is_refused(world: World, text: str) -> None:
    assert world.register(1, 1, auth=text).response.error == "invalid pre auth key"


def test_the_right_identifier_with_another_secret_is_refused(world: World) -> None:
    created = world.auth_key()
    assert world.register(1, 1, auth=created.text[:-1] + "!").response.error == "invalid pre auth key"


def test_an_expired_key_is_refused(world: World) -> None:
    created = world.auth_key(lifetime_s=60)
    world.now += 60
    assert world.register(1, 1, auth=created.text).response.error == "authkey expired"


def test_a_revoked_key_is_refused(world: World) -> None:
    created = world.auth_key()
    world.do(partial(revoke_auth_key, key_id=created.id))
    assert world.register(1, 1, auth=created.text).response.error == "authkey revoked"


def test_a_suspended_users_key_is_refused(world: World) -> None:
    user = world.do(partial(create_user, login_name="bob"))
    created = world.auth_key(user_id=user.id)
    world.do(partial(suspend_user, user_id=user.id))
    assert world.register(1, 1, auth=created.text).response.error == "invalid pre auth key"


def test_an_ephemeral_key_or_an_ephemeral_wish_makes_an_ephemeral_node(world: World) -> None:
    world.register(1, 1, auth=world.auth_key(is_ephemeral=True).text)
    world.register(2, 2, auth=world.auth_key().text, is_ephemeral=True)
    world.register(3, 3, auth=world.auth_key().text)
    assert [world.node(number).is_ephemeral for number in (1, 2, 3)] == [True, True, False]


def test_a_tagged_key_makes_a_node_of_nobody_that_never_expires(world: World) -> None:
    answer = world.register(1, 1, auth=world.auth_key(tags=("tag:web",)).text)
    assert world.node(1).tags == ("tag:web",)
    assert world.node(1).effective_expiry_unix_s is None
    assert answer.response.login.login_name == "tagged-devices"


def test_requested_tags_need_the_keys_or_its_users_permission(world: World) -> None:
    user = world.do(partial(create_user, login_name="bob"))
    mine = world.auth_key(user_id=user.id, tags=("tag:a", "tag:b"), is_reusable=True)
    assert world.register(1, 1, auth=mine.text, tags=("tag:a",)).response.error == ""
    assert world.node(1).tags == ("tag:a",)
    assert "not permitted" in world.register(2, 2, auth=mine.text, tags=("tag:c",)).response.error
    assert "not a tag" in world.register(3, 3, auth=mine.text, tags=("a tag",)).response.error
    assert world.register(4, 4, auth=world.auth_key().text, tags=("tag:c",)).response.error == ""


def test_device_approval_waits_unless_the_key_is_preauthorised(world: World) -> None:
    settings = msgspec.structs.replace(world.tailnet.settings, is_device_approval_on=True)
    world.do(partial(update_settings, settings=settings))
    assert not world.register(1, 1, auth=world.auth_key().text).response.machine_authorized
    assert world.register(2, 2, auth=world.auth_key(is_preauthorized=True).text).response.machine_authorized


def test_a_known_key_is_echoed_and_nothing_changes(world: World) -> None:
    world.enrolled(1)
    before = world.tailnet
    answer = world.register(1, 1, hostname="other")
    assert answer.response.error == answer.response.auth_url == ""
    assert not answer.response.node_key_expired
    assert world.tailnet is before


def test_anothers_node_key_is_refused_on_every_path(world: World) -> None:
    victim = world.enrolled(1)
    created = world.auth_key(is_reusable=True)
    for answer in (
        world.register(2, 1),
        world.register(2, 1, auth=created.text),
        world.register(2, 1, expiry_unix_s=123.0),
        world.register(2, 1, followup=LOGIN_URL + "x"),
    ):
        assert answer.response.error == "node key is in use by another machine"
    assert world.node(1) == victim


def test_the_zero_key_is_no_node_key(world: World) -> None:
    answer = world.register(1, 0, auth=world.auth_key().text)
    assert "zero key" in answer.response.error
    assert not world.tailnet.nodes


def test_an_old_node_key_of_another_machine_gives_nothing(world: World) -> None:
    victim = world.enrolled(1)
    world.register(2, 2, auth=world.auth_key().text, old=1)
    assert world.node(1) == victim
    assert world.node(2).id != victim.id


def test_an_expired_node_is_told_so_and_an_auth_key_renews_it(world: World) -> None:
    node = world.enrolled(1)
    world.do(partial(expire_device, node_id=node.id))
    assert world.register(1, 1).response.node_key_expired
    assert world.register(1, 1, auth=world.auth_key().text).response.error == ""
    renewed = world.node(1)
    assert (renewed.id, renewed.ipv4) == (node.id, node.ipv4)
    assert not renewed.is_expired(world.now)


@pytest.mark.parametrize("old", [1, None])
def test_a_new_key_of_the_same_machine_keeps_the_node(world: World, old: int | None) -> None:
    node = world.enrolled(1)
    world.do(partial(rename_device, node_id=node.id, name="given"))
    world.register(1, 2, auth=world.auth_key().text, old=old)
    rotated = world.node(2)
    assert (rotated.id, rotated.stable_id, rotated.addresses, rotated.name) == (
        node.id, node.stable_id, node.addresses, "given",
    )  # fmt: skip
    assert world.tailnet.node_by_key(key(1)) is None


def test_another_user_on_the_same_machine_gets_a_second_node(world: World) -> None:
    world.enrolled(1)
    user = world.do(partial(create_user, login_name="bob"))
    world.register(1, 2, auth=world.auth_key(user_id=user.id).text)
    assert len(world.tailnet.nodes_of_machine(machine(1))) == 2
    assert world.node(1).user_id != world.node(2).user_id


def test_extending_a_key_is_refused(world: World) -> None:
    world.enrolled(1)
    assert world.register(1, 1, expiry_unix_s=world.now + 1).response.error == "extending key is not allowed"


def test_logout_ends_the_key_now_and_not_in_1970(world: World) -> None:
    world.enrolled(1)
    answer = world.register(1, 1, expiry_unix_s=123.0, auth="anything")
    assert answer.response.error == ""
    assert world.node(1).key_expires_unix_s == world.now
    assert world.register(1, 1, expiry_unix_s=123.0).response.error == ""
    assert world.change.is_empty


def test_logout_of_an_ephemeral_node_deletes_it(world: World) -> None:
    world.enrolled(1, is_ephemeral=True)
    world.register(1, 1, expiry_unix_s=123.0)
    assert not world.tailnet.nodes


def test_logout_of_a_stranger_changes_nothing(world: World) -> None:
    before = world.tailnet
    assert world.register(9, 9, expiry_unix_s=123.0).response.error == ""
    assert world.tailnet is before


def test_a_required_tailnet_of_another_name_is_refused(world: World) -> None:
    assert "tailnet" in world.register(1, 1, auth=world.auth_key().text, tailnet="required:other").response.error
    assert world.register(1, 1, auth=world.auth_key().text, tailnet="required:tailbox").response.error == ""


# Interactive


def begin(world: World, number: int = 1) -> tuple[str, str]:
    """(AuthURL, login identifier)"""
    url = world.register(number, number).response.auth_url
    assert url.startswith(LOGIN_URL)
    return url, url.removeprefix(LOGIN_URL)


def test_an_interactive_login_waits_and_ends_with_approval(world: World) -> None:
    url, login_id = begin(world)
    waiting = world.register(1, 1, followup=url)
    assert (waiting.response.auth_url, waiting.wait_for) == (url, login_id)
    world.do(partial(approve_login, login_id=login_id, user_id=world.owner.id))
    done = world.register(1, 1, followup=url)
    assert done.response.auth_url == ""
    assert done.wait_for is None
    assert done.response.login.login_name == "alice@example.com"


def test_asking_again_keeps_the_login(world: World) -> None:
    assert begin(world) == begin(world)
    assert len(world.tailnet.pending_logins) == 1


def test_a_forgotten_login_gets_a_fresh_url(world: World) -> None:
    url, _ = begin(world)
    world.now += LIFETIME_S
    fresh = world.register(1, 1, followup=url)
    assert fresh.response.auth_url not in ("", url)
    assert fresh.wait_for is None


def test_a_refused_machine_is_told_so_for_some_minutes(world: World) -> None:
    url, login_id = begin(world)
    world.do(partial(refuse_login, login_id=login_id))
    for followup in (url, ""):
        answer = world.register(1, 1, followup=followup)
        assert (answer.response.error, answer.response.auth_url) == ("an administrator refused this machine", "")
        assert answer.wait_for is None
    assert not world.tailnet.pending_logins
    assert world.register(1, 2).response.auth_url
    assert world.register(2, 3).response.auth_url
    world.now += REFUSED_S
    assert world.register(1, 1, followup=url).response.auth_url not in ("", url)


def test_an_auth_key_lets_a_refused_machine_in(world: World) -> None:
    world.do(partial(refuse_login, login_id=begin(world)[1]))
    assert world.enrolled(1).id == 1


def test_a_machine_that_joins_by_key_waits_for_nobody_any_more(world: World) -> None:
    begin(world)
    begin(world, 2)
    world.enrolled(1)
    assert [login.machine_key for login in world.tailnet.pending_logins.values()] == [machine(2)]


def test_refusals_are_bounded_and_the_newest_stay(world: World) -> None:
    for number in range(1, MAX_REFUSED + 3):
        url = world.register(number, number).response.auth_url
        world.do(partial(refuse_login, login_id=url.removeprefix(LOGIN_URL)))
    assert len(world.tailnet.refused_logins) == MAX_REFUSED
    assert world.register(MAX_REFUSED + 2, MAX_REFUSED + 2).response.error
    assert world.register(1, 1).response.auth_url
    world.now += REFUSED_S
    world.do(partial(refuse_login, login_id=begin(world)[1]))
    assert len(world.tailnet.refused_logins) == 1


def test_a_followup_of_another_machine_does_not_wait(world: World) -> None:
    url, _ = begin(world)
    answer = world.register(2, 2, followup=url)
    assert answer.wait_for is None
    assert answer.response.auth_url != url


def test_the_ephemeral_wish_of_the_first_request_counts(world: World) -> None:
    url = world.register(1, 1, is_ephemeral=True).response.auth_url
    world.register(1, 1, followup=url)
    world.do(partial(approve_login, login_id=url.removeprefix(LOGIN_URL), user_id=world.owner.id))
    assert world.node(1).is_ephemeral


def test_a_decided_login_cannot_be_decided_again(world: World) -> None:
    _, login_id = begin(world)
    world.do(partial(approve_login, login_id=login_id, user_id=world.owner.id))
    with pytest.raises(NotFound):
        world.do(partial(approve_login, login_id=login_id, user_id=world.owner.id))
    with pytest.raises(NotFound):
        world.do(partial(refuse_login, login_id=login_id))


def test_a_suspended_user_and_a_user_without_the_tag_cannot_approve(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob", role=Role.MEMBER))
    url = world.register(1, 1, tags=("tag:a",)).response.auth_url
    login_id = url.removeprefix(LOGIN_URL)
    with pytest.raises(Forbidden, match="tag:a"):
        world.do(partial(approve_login, login_id=login_id, user_id=bob.id))
    world.do(partial(suspend_user, user_id=bob.id))
    with pytest.raises(Forbidden, match="suspended"):
        world.do(partial(approve_login, login_id=login_id, user_id=bob.id))
    world.do(partial(approve_login, login_id=login_id, user_id=world.owner.id))
    assert world.node(1).tags == ("tag:a",)


def test_a_key_that_was_taken_meanwhile_cannot_be_approved(world: World) -> None:
    _, login_id = begin(world)
    world.register(2, 1, auth=world.auth_key().text)
    with pytest.raises(Conflict):
        world.do(partial(approve_login, login_id=login_id, user_id=world.owner.id))


def test_the_cache_of_logins_is_bounded(world: World) -> None:
    for number in range(1, MAX_PENDING + 3):
        begin(world, number)
    assert len(world.tailnet.pending_logins) == MAX_PENDING
    assert next(iter(world.tailnet.pending_logins.values())).node_key == key(3)


def test_a_pending_login_touches_no_row(world: World) -> None:
    begin(world)
    assert not world.change.touches_rows
    assert not world.change.is_empty
