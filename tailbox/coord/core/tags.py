"""Tags: their form, and who may put them on a device."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from tailbox.coord.core.records import Role, User
from tailbox.errors import Invalid

TAG = re.compile(r"tag:[a-zA-Z][a-zA-Z0-9-]{0,61}")  # tailcfg.CheckTag; the length is ours
MAX_TAGS = 32  # ours: of one device or key
ROLES_WITH_EVERY_TAG = frozenset({Role.OWNER, Role.ADMIN, Role.NETWORK_ADMIN})  # role matrix, §18.3

TagPermission = Callable[[User, str], bool]  # the policy's tagOwners


def roles_only(user: User, tag: str) -> bool:
    """TagPermission without a policy: by role."""
    return user.role in ROLES_WITH_EVERY_TAG


def check_tags(tags: Collection[str]) -> tuple[str, ...]:
    """Sorted and without repetition. Raises Invalid."""
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise Invalid(f"not a tag: {tag[:80]!r}; wanted `tag:` and letters, digits, hyphens")
    if len(tags) > MAX_TAGS:
        raise Invalid(f"{len(tags)} tags: at most {MAX_TAGS}")
    return tuple(sorted(set(tags)))
