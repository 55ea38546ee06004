"""Device names: what a host calls itself becomes a DNS label, unique in the tailnet.

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


def free_name(tailnet: Tailnet, wanted: str, *, node_id: int) -> str:
    """The label, or with `-1`, `-2` … the first that no other node has; the stem is cut to fit.

    Ends after as many tries as there are nodes, plus one: they cannot all be taken.
    """
    room = MAX_FQDN_CHARACTERS - len(tailnet.settings.base_domain) - 1
    limit = min(MAX_LABEL_CHARACTERS, room)
    for number in range(len(tailnet.nodes) + 1):
        suffix = f"-{number}" if number else ""
        candidate = wanted[: limit - len(suffix)].rstrip("-") + suffix
        holder = tailnet.node_by_name(candidate)
        if holder is None or holder.id == node_id:
            return candidate
    raise AssertionError("more names taken than there are nodes")


def given_name(tailnet: Tailnet, text: str, *, node_id: int) -> str:
    """The label of a name that an administrator typed: a label, or a full name of this tailnet.

    Raises Invalid for what is no such name, Conflict if another node has it.
    """
    label = text.strip().lower().removesuffix(".").removesuffix("." + tailnet.settings.base_domain)
    if not LABEL.fullmatch(label):
        raise Invalid(f"not a device name: {text[:80]!r}; wanted letters, digits and hyphens, at most 63")
    holder = tailnet.node_by_name(label)
    if holder is not None and holder.id != node_id:
        raise Conflict(f"the name {label!r} is taken")
    if len(label) + 1 + len(tailnet.settings.base_domain) > MAX_FQDN_CHARACTERS:
        raise Invalid(f"the name {label!r} is too long")
    return label
