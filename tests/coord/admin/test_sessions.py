"""Sessions and sign-in links: found, spent once, expired, bounded."""

from __future__ import annotations

from tailbox.coord.admin.sessions import LINK_LIFETIME_S, MAX_LINKS, MAX_SESSIONS, SESSION_LIFETIME_S, Sessions
from tailbox.randomness import SeededRandom

NOW = 1_700_000_000.0


def sessions() -> Sessions:
    return Sessions(SeededRandom("sessions"))


def test_a_session_is_found_by_its_cookie_only() -> None:
    table = sessions()
    secret, session = table.open(7, browser="B" * 500, now_unix_s=NOW)
    found = table.find(secret, now_unix_s=NOW + 5)
    assert found is not None
    assert (found.user_id, found.last_seen_unix_s, len(found.browser)) == (7, NOW + 5, 200)
    assert session.csrf_token not in secret
    assert table.find(secret + "x", now_unix_s=NOW) is None
    assert table.find("", now_unix_s=NOW) is None
    assert table.find("\udcff", now_unix_s=NOW) is None


def test_a_session_ends_after_its_lifetime_and_is_forgotten() -> None:
    table = sessions()
    secret, _ = table.open(1, browser="", now_unix_s=NOW)
    assert table.find(secret, now_unix_s=NOW + SESSION_LIFETIME_S) is None
    assert len(table) == 0


def test_signing_out_ends_one_session() -> None:
    table = sessions()
    first, _ = table.open(1, browser="", now_unix_s=NOW)
    second, _ = table.open(1, browser="", now_unix_s=NOW)
    table.close(first)
    table.close("unknown")
    assert table.find(first, now_unix_s=NOW) is None
    assert table.find(second, now_unix_s=NOW) is not None


def test_a_link_works_once_and_for_a_while() -> None:
    table = sessions()
    secret, _ = table.make_link(3, now_unix_s=NOW)
    link = table.use_link(secret, now_unix_s=NOW + 1)
    assert link is not None
    assert link.user_id == 3
    assert table.use_link(secret, now_unix_s=NOW + 1) is None
    late, _ = table.make_link(3, now_unix_s=NOW)
    assert table.use_link(late, now_unix_s=NOW + LINK_LIFETIME_S) is None


def test_both_tables_are_bounded_and_drop_the_oldest() -> None:
    table = sessions()
    oldest, _ = table.open(1, browser="", now_unix_s=NOW)
    oldest_link, _ = table.make_link(1, now_unix_s=NOW)
    for _ in range(MAX_SESSIONS):
        table.open(1, browser="", now_unix_s=NOW)
    for _ in range(MAX_LINKS):
        table.make_link(1, now_unix_s=NOW)
    assert len(table) == MAX_SESSIONS
    assert table.find(oldest, now_unix_s=NOW) is None
    assert table.use_link(oldest_link, now_unix_s=NOW) is None


def test_secrets_are_not_kept() -> None:
    table = sessions()
    secret, _ = table.open(1, browser="", now_unix_s=NOW)
    link, _ = table.make_link(1, now_unix_s=NOW)
    assert secret not in repr(vars(table))
    assert link not in repr(vars(table))
