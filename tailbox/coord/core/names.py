"""Device names: what a host calls itself becomes a DNS label, unique in the tailnet.

A name, once given, belongs to its owner for ever (`records.name_owner`): when its node is gone or called otherwise,
only a node of the same owner, or that very node, gets it again. So ephemeral nodes come back under their names, and
nobody takes another's.

Source: tailscale util/dnsname/dnsname.go (SanitizeHostname, TrimCommonSuffixes); headscale hscontrol/types/node.go.
"""

from __future__ import annotations

import re

from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, Invalid

MAX_LABEL_CHARACTERS = 63  # RFC 1035 §2.3.4
MAX_FQDN_CHARACTERS = 253  # RFC 1035 §2.3.4, without root label and length octets
FALLBACK_NAME = "node"
COMMON_SUFFIXES = (".local", ".localdomain", ".lan")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TO_HYPHEN = str.maketrans({" ": "-", ".": "-", "@": "-", "_": "-"})


def label_from_hostname(hostname: str) -> str:
    """The label that a host's own name makes; `node` if nothing is left of it."""
    text = hostname.strip().lower()[:1024]
    for suffix in COMMON_SUFFIXES:
        text = text.removesuffix(suffix)
    kept = "".join(
        letter for letter in text.translate(TO_HYPHEN) if letter.isascii() and (letter.isalnum() or letter == "-")
    )
    return kept.strip("-")[:MAX_LABEL_CHARACTERS].strip("-") or FALLBACK_NAME


def free_name(tailnet: Tailnet, wanted: str, *, node_id: int, owner: str) -> str:
    """The label, or with `-1`, `-2` … the first that the owner's node can have; the stem is cut to fit.

    Ends after as many tries as there are names, plus one: they cannot all be taken.
    """
    room = MAX_FQDN_CHARACTERS - len(tailnet.settings.base_domain) - 1
    limit = min(MAX_LABEL_CHARACTERS, room)
    for number in range(len(tailnet.nodes) + len(tailnet.retired_names) + 1):
        suffix = f"-{number}" if number else ""
        candidate = wanted[: limit - len(suffix)].rstrip("-") + suffix
        if _obstacle(tailnet, candidate, node_id=node_id, owner=owner) is None:
            return candidate
    raise AssertionError("more names taken than there are")


def given_name(tailnet: Tailnet, text: str, *, node_id: int, owner: str) -> str:
    """The label of a name that an administrator typed: a label, or a full name of this tailnet.

    Raises Invalid for what is no such name, Conflict if another node has it, or one of another owner once had.
    """
    label = text.strip().lower().removesuffix(".").removesuffix("." + tailnet.settings.base_domain)
    if not LABEL.fullmatch(label):
        raise Invalid(f"not a device name: {text[:80]!r}; wanted letters, digits and hyphens, at most 63")
    obstacle = _obstacle(tailnet, label, node_id=node_id, owner=owner)
    if obstacle is not None:
        raise Conflict(f"the name {label!r} {obstacle}")
    if len(label) + 1 + len(tailnet.settings.base_domain) > MAX_FQDN_CHARACTERS:
        raise Invalid(f"the name {label!r} is too long")
    return label


def _obstacle(tailnet: Tailnet, label: str, *, node_id: int, owner: str) -> str | None:
    """Why a node of the owner cannot have the name; None if it can."""
    holder = tailnet.node_by_name(label)
    if holder is not None:
        return None if holder.id == node_id else "is taken"
    retired = tailnet.retired_names.get(label)
    if retired is not None and retired.owner != owner and retired.node_id != node_id:
        return "was a device's of another owner, and stays reserved"
    return None
