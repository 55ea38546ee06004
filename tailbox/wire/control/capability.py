"""Capability versions, and the capabilities that maps carry. Source: tailscale tailcfg/{tailcfg,nodecap,peercap}."""

from __future__ import annotations

CURRENT_VERSION = 113  # ours: what our node announces; the oldest that headscale 0.30 accepts
OLDEST_NODE_VERSION = 106  # ours: what our coordinator accepts

# What a version adds, as far as a message's form depends on it.
HOSTINFO_LEFT_OUT_OF_STREAM = 68  # streaming requests change nothing; lite updates do
HOME_DERP = 111  # below it nodes read the legacy string `127.3.3.40:N`
ALLOWED_IPS_MAY_BE_ABSENT = 112
RATE_LIMITS_UNDERSTOOD = 137  # 429 with Retry-After

# On the self node.
IS_ADMIN = "https://tailscale.com/cap/is-admin"
IS_OWNER = "https://tailscale.com/cap/is-owner"
SSH = "https://tailscale.com/cap/ssh"
FILE_SHARING = "https://tailscale.com/cap/file-sharing"
DEFAULT_AUTO_UPDATE = "default-auto-update"  # [true] or [false]
HTTPS = "https"
MAX_KEY_DURATION = "tailnet.maxKeyDuration"  # [seconds]
TAILNET_DISPLAY_NAME = "tailnet-display-name"  # [name]
MAGIC_DNS_AAAA = "magicdns-aaaa"
SERVICE_HOST = "service-host"

# On peers.
SUGGEST_EXIT_NODE = "suggest-exit-node"

# Granted from peer to peer.
PEER_FILE_SHARING_TARGET = "https://tailscale.com/cap/file-sharing-target"
PEER_FILE_SEND = "https://tailscale.com/cap/file-send"
