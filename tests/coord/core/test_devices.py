"""What administrators do to devices, users, keys and settings; and what time does to all of them."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from tailbox.coord.core.api_tokens import authenticate, create_api_token, revoke_api_token
from tailbox.coord.core.auth_keys import revoke_auth_key
from tailbox.coord.core.devices import (
    authorize_device,
    delete_device,
    expire_device,
    rename_device,
    set_device_ipv4,
    set_device_routes,
    set_key_expiry,
    tag_device,
)
from tailbox.coord.core.housekeeping import keep_house, next_due_unix_s
from tailbox.coord.core.presence import OFFLINE_GRACE_S, close_session, everyone_offline, open_session
from tailbox.coord.core.records import DAY_S, DnsSettings, Role
from tailbox.coord.core.settings import set_dns, update_settings
from tailbox.coord.core.users import create_user, delete_user, restore_user, set_role, suspend_user
from tailbox.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from tests.coord.core.world import World


def test_identifiers_find_the_device_in_both_forms(world: World) -> None:
    node = world.enrolled(1)
    assert world.tailnet.find_node(node.stable_id) == world.tailnet.find_node("1") == node
    for text in ("", "2", "n1CNTRL", "n00000002CNTRL", "x", "1" * 40, "n" + "9" * 40 + "CNTRL"):
        with pytest.raises(NotFound):
            world.tailnet.find_node(text)


def test_renaming_takes_labels_and_full_names_and_refuses_taken_ones(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    world.do(partial(rename_device, node_id=1, name="Web.tailnet.internal"))
    assert world.node(1).name == "web"
    assert world.change.events[0].what == "NODE.UPDATE.MACHINE_NAME"
    with pytest.raises(Conflict):
        world.do(partial(rename_device, node_id=2, name="web"))
    for bad in ("a b", "-a", "a.b", "é", "x" * 64):
        with pytest.raises(Invalid):
            world.do(partial(rename_device, node_id=2, name=bad))


def test_the_same_again_is_no_change(world: World) -> None:
    world.enrolled(1)
    world.do(partial(authorize_device, node_id=1, is_authorized=True))
    assert world.change.is_empty


def test_key_expiry_can_be_switched_off_and_on(world: World) -> None:
    world.enrolled(1)
    world.do(partial(set_key_expiry, node_id=1, is_disabled=True))
    world.now += 400 * DAY_S
    assert not world.node(1).is_expired(world.now)
    world.do(partial(set_key_expiry, node_id=1, is_disabled=False))
    assert world.node(1).effective_expiry_unix_s == world.now + 180 * DAY_S


def test_expiring_works_whatever_the_settings(world: World) -> None:
    world.enrolled(1)
    world.do(partial(set_key_expiry, node_id=1, is_disabled=True))
    world.do(partial(expire_device, node_id=1))
    assert world.node(1).is_expired(world.now)


def test_tags_replace_and_end_the_key_expiry(world: World) -> None:
    world.enrolled(1)
    world.do(partial(tag_device, node_id=1, tags=("tag:b", "tag:a", "tag:a")))
    assert world.node(1).tags == ("tag:a", "tag:b")
    assert world.node(1).effective_expiry_unix_s is None
    with pytest.raises(Invalid):
        world.do(partial(tag_device, node_id=1, tags=("web",)))


def test_routes_are_sorted_by_address_and_exit_routes_come_as_a_pair(world: World) -> None:
    world.enrolled(1)
    world.do(partial(set_device_routes, node_id=1, routes=("10.0.1.0/24", "1.2.0.0/16", "2.0.0.0/24", "0.0.0.0/0")))
    assert world.node(1).approved_routes == ("0.0.0.0/0", "1.2.0.0/16", "2.0.0.0/24", "10.0.1.0/24", "::/0")
    with pytest.raises(Invalid):
        world.do(partial(set_device_routes, node_id=1, routes=("10.0.0.1/24",)))


def test_a_chosen_address_must_be_new_and_is_never_given_again(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    for bad in ("x", "10.0.0.1", "100.100.100.100", "100.115.92.7", "100.64.0.0", "100.127.255.255", "fd7a::1"):
        with pytest.raises(Invalid):
            world.do(partial(set_device_ipv4, node_id=1, ipv4=bad))
    with pytest.raises(Conflict):
        world.do(partial(set_device_ipv4, node_id=1, ipv4="100.64.0.2"))
    world.do(partial(set_device_ipv4, node_id=1, ipv4="100.64.0.3"))
    world.do(partial(delete_device, node_id=1))
    with pytest.raises(Conflict):
        world.do(partial(set_device_ipv4, node_id=2, ipv4="100.64.0.3"))
    assert world.enrolled(3).ipv4 == "100.64.0.4"


def test_nothing_of_a_deleted_device_comes_back_but_its_name(world: World) -> None:
    first = world.enrolled(1)
    world.do(partial(delete_device, node_id=1))
    second = world.enrolled(1)
    assert second.name == first.name
    assert second.id != first.id
    assert second.stable_id != first.stable_id
    assert not {*second.addresses} & {*first.addresses}


# Presence and time


def test_a_node_is_online_while_any_stream_is_open_and_for_a_grace(world: World) -> None:
    world.enrolled(1)
    for command in (open_session, open_session, close_session):
        world.do(partial(command, node_id=1))
        assert not world.change.events
    world.do(keep_house)
    assert world.node(1).is_online
    world.do(partial(close_session, node_id=1))
    world.now += OFFLINE_GRACE_S - 1
    world.do(keep_house)
    assert world.node(1).is_online
    assert next_due_unix_s(world.tailnet) == world.now + 1
    world.now += 1
    world.do(keep_house)
    assert not world.node(1).is_online
    assert world.node(1).last_seen_unix_s == world.now - OFFLINE_GRACE_S


def test_reconnecting_within_the_grace_is_no_news(world: World) -> None:
    world.enrolled(1)
    world.do(partial(open_session, node_id=1))
    world.do(partial(close_session, node_id=1))
    world.do(partial(open_session, node_id=1))
    world.now += 60
    world.do(keep_house)
    assert world.node(1).is_online


def test_closing_too_often_or_after_deletion_is_harmless(world: World) -> None:
    world.enrolled(1)
    world.do(partial(close_session, node_id=1))
    world.do(partial(close_session, node_id=99))
    assert world.change.is_empty


def test_ephemeral_nodes_go_after_the_time_out_and_not_while_connected(world: World) -> None:
    world.enrolled(1, is_ephemeral=True)
    world.enrolled(2, is_ephemeral=True)
    world.do(partial(open_session, node_id=2))
    world.now += 1800
    world.do(keep_house)
    assert list(world.tailnet.nodes) == [2]
    assert world.change.events[0].what == "NODE.DELETE"


def test_after_a_restart_ephemeral_nodes_get_their_time_again(world: World) -> None:
    world.enrolled(1, is_ephemeral=True)
    world.do(partial(open_session, node_id=1))
    world.now += 10_000
    world.do(everyone_offline)
    world.do(keep_house)
    assert not world.node(1).is_online
    world.now += 1800
    world.do(keep_house)
    assert not world.tailnet.nodes


def test_an_expiry_is_announced_once(world: World) -> None:
    world.enrolled(1)
    world.now += 180 * DAY_S
    world.do(keep_house)
    assert [event.what for event in world.change.events] == ["NODE.EXPIRED.KEY_EXPIRY_TIME"]
    world.do(keep_house)
    assert world.change.is_empty
    assert next_due_unix_s(world.tailnet) is None


# Users


def test_the_first_user_owns_and_the_role_moves(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    assert (world.owner.role, bob.role) == (Role.OWNER, Role.MEMBER)
    with pytest.raises(Conflict):
        world.do(partial(set_role, user_id=world.owner.id, role=Role.MEMBER))
    world.do(partial(set_role, user_id=bob.id, role=Role.OWNER))
    assert world.tailnet.users[world.owner.id].role is Role.ADMIN
    with pytest.raises(Conflict):
        world.do(partial(suspend_user, user_id=bob.id))
    with pytest.raises(Conflict):
        world.do(partial(delete_user, user_id=bob.id))


def test_identity_is_issuer_and_subject(world: World) -> None:
    one = world.do(partial(create_user, login_name="x@a", issuer="https://a", subject="s"))
    two = world.do(partial(create_user, login_name="x@b", issuer="https://b", subject="s"))
    assert world.tailnet.user_by_identity("https://a", "s") == one
    assert world.tailnet.user_by_identity("https://b", "s") == two
    with pytest.raises(Conflict):
        world.do(partial(create_user, login_name="y", issuer="https://a", subject="s"))
    with pytest.raises(Invalid):
        world.do(partial(create_user, login_name="a\nb"))


def test_deleting_a_user_takes_nodes_keys_and_tokens_along(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    token = world.do(partial(create_api_token, user_id=bob.id, random=world.random))
    plain, tagged = world.auth_key(user_id=bob.id), world.auth_key(user_id=bob.id, tags=("tag:a",))
    world.register(1, 1, auth=plain.text)
    world.register(2, 2, auth=tagged.text)
    world.do(partial(delete_user, user_id=bob.id))
    assert list(world.tailnet.nodes) == [2]
    with pytest.raises(Unauthorized):
        authenticate(world.tailnet, world.now, token.text)
    assert world.tailnet.auth_keys[plain.id].revoked_unix_s == world.now
    with pytest.raises(Conflict):
        world.do(partial(tag_device, node_id=2, tags=()))


# API tokens


def test_a_token_is_good_until_it_is_revoked_expires_or_its_user_is_suspended(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    token = world.do(partial(create_api_token, user_id=bob.id, random=world.random, lifetime_s=DAY_S))
    assert token.text.startswith(f"tskey-api-{token.id}-")
    assert authenticate(world.tailnet, world.now, token.text).user_id == bob.id
    world.do(partial(suspend_user, user_id=bob.id))
    with pytest.raises(Unauthorized):
        authenticate(world.tailnet, world.now, token.text)
    with pytest.raises(Forbidden):
        world.do(partial(create_api_token, user_id=bob.id, random=world.random))
    world.do(partial(restore_user, user_id=bob.id))
    assert authenticate(world.tailnet, world.now, token.text).id == token.id
    with pytest.raises(Unauthorized):
        authenticate(world.tailnet, world.now + DAY_S, token.text)
    world.do(partial(revoke_api_token, token_id=token.id))
    with pytest.raises(Unauthorized):
        authenticate(world.tailnet, world.now, token.text)


def test_an_auth_key_is_no_api_token_and_made_up_ones_are_refused(world: World) -> None:
    for text in (world.auth_key().text, "", "tskey-api-", "tskey-api-a-b", "é", "x" * 10_000):
        with pytest.raises(Unauthorized):
            authenticate(world.tailnet, world.now, text)


def test_the_snapshot_knows_no_secret(world: World) -> None:
    created = world.auth_key()
    secret = created.text.rpartition("-")[2]
    assert secret not in repr(world.tailnet)
    assert secret not in repr(created)


def test_revoking_twice_and_bad_lifetimes(world: World) -> None:
    created = world.auth_key()
    world.do(partial(revoke_auth_key, key_id=created.id))
    world.do(partial(revoke_auth_key, key_id=created.id))
    assert world.change.is_empty
    for lifetime_s in (0, -1, 7_776_001, float("nan")):
        with pytest.raises(Invalid):
            world.auth_key(lifetime_s=lifetime_s)


# Settings


def test_settings_are_checked_and_told_one_by_one(world: World) -> None:
    settings = msgspec.structs.replace(world.tailnet.settings, is_device_approval_on=True, key_duration_days=7)
    world.do(partial(update_settings, settings=settings))
    assert [event.aspect for event in world.change.events] == ["MACHINE_APPROVAL_NEEDED", "MAX_KEY_DURATION"]
    with pytest.raises(Invalid):
        world.do(partial(update_settings, settings=msgspec.structs.replace(settings, key_duration_days=181)))


@pytest.mark.parametrize(
    "dns",
    [
        DnsSettings(nameservers=("x",)),
        DnsSettings(search_paths=("a b",)),
        DnsSettings(split_dns={"": ("192.0.2.1",)}),
        DnsSettings(split_dns={"corp": ("http://x",)}),
        DnsSettings(nameservers=("192.0.2.1",) * 33),
    ],
)
def test_bad_dns_settings_are_refused(world: World, dns: DnsSettings) -> None:
    with pytest.raises(Invalid):
        world.do(partial(set_dns, dns=dns))
