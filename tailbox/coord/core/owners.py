"""Who owns a node, as messages name it: its user, or the one pseudo-user of all tagged nodes."""

from __future__ import annotations

from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.node import Login, User, UserProfile
from tailbox.wire.control.timestamp import Timestamp

# Source: headscale hscontrol/types/users.go, TaggedDevices.
TAGGED_PROFILE = UserProfile(id=2147455555, login_name="tagged-devices", display_name="Tagged Devices")


def profile_of(tailnet: Tailnet, node: TailnetNode) -> UserProfile:
    """The profile whose number `Node.User` carries. A node whose user is gone has a nameless one."""
    if node.is_tagged:
        return TAGGED_PROFILE
    user = tailnet.users.get(node.user_id)
    if user is None:
        return UserProfile(id=node.user_id, login_name=f"user-{node.user_id}", display_name="Deleted user")
    return UserProfile(
        id=user.id, login_name=user.login_name, display_name=user.display_name, profile_pic_url=user.profile_pic_url
    )


def user_of(tailnet: Tailnet, node: TailnetNode) -> User:
    """For the registration's answer: agrees with the profile."""
    profile = profile_of(tailnet, node)
    user = tailnet.users.get(profile.id)
    created = Timestamp.from_unix(user.created_unix_s) if user is not None else Timestamp.zero()
    return User(
        id=profile.id, display_name=profile.display_name, profile_pic_url=profile.profile_pic_url, created=created
    )


def login_of(tailnet: Tailnet, node: TailnetNode) -> Login:
    """For the registration's answer."""
    profile = profile_of(tailnet, node)
    return Login(
        id=profile.id,
        login_name=profile.login_name,
        display_name=profile.display_name,
        profile_pic_url=profile.profile_pic_url,
    )
