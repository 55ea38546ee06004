"""Our own small HTML pages: one frame, one style sheet, and headers that let nothing else in.

Every value is escaped where it is put in (`escape`), because host names come from strangers. Scripts and styles are
inline and carry a nonce, so that a page needs no second request and the policy needs no `unsafe-inline`.
Source: CSP level 3 §7; the headers of headscale's registration pages.
"""

from __future__ import annotations

from html import escape

from starlette.responses import Response

from tailbox.coord.admin.console_bundle import icon_path
from tailbox.randomness import RandomSource

STYLE = """
:root { color-scheme: light dark; --line: #8885; --accent: #2f6fed; --bad: #c0392b; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; min-height: 100vh; place-items: center; }
main { max-width: 34rem; width: calc(100% - 3rem); padding: 1.5rem; }
main { border: 1px solid var(--line); border-radius: 10px; }
main.wide { max-width: 60rem; place-self: start center; margin: 2rem; }
h1 { font-size: 1.35rem; margin: 0 0 .75rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .9em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
input, textarea { font: inherit; width: 100%; box-sizing: border-box; padding: .45rem; margin: .25rem 0 .75rem; }
button { font: inherit; padding: .5rem 1rem; border-radius: 6px; border: 1px solid var(--line); cursor: pointer; }
button.primary { background: var(--accent); border-color: var(--accent); color: #fff; }
.error { color: var(--bad); } .muted { opacity: .7; }
form.inline { display: inline-block; margin-right: .5rem; }
""".strip()

NO_ICON = "data:,"  # without any, browsers ask for /favicon.ico

PAGE_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def new_nonce(random: RandomSource) -> str:
    """A value for one answer's `script-src`."""
    return random.bytes(16).hex()


def content_security_policy(nonce: str) -> str:
    """Nothing but what carries the nonce, requests to ourselves, and no frames."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def html_page(
    title: str, body: str, *, nonce: str, status: int = 200, script: str | None = None, is_wide: bool = False
) -> Response:
    """A whole page. `title` is escaped here; `body` is markup whose values are already escaped; `script` is ours."""
    tail = f'<script nonce="{nonce}">{script}</script>' if script else ""
    frame = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · Tailbox</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{icon_path() or NO_ICON}">'
        f'<style nonce="{nonce}">{STYLE}</style></head>'
        f"<body><main{' class=wide' if is_wide else ''}><h1>{escape(title)}</h1>{body}</main>{tail}</body></html>"
    )
    headers = {**PAGE_HEADERS, "Content-Security-Policy": content_security_policy(nonce)}
    return Response(frame, status, headers, "text/html; charset=utf-8")


def facts(rows: dict[str, str]) -> str:
    """A definition list; both sides are escaped."""
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    return f"<dl>{inner}</dl>"


def hidden_field(name: str, value: str) -> str:
    """A hidden input."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
