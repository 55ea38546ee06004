"""`/admin/`: the console's files. Its routes live in the browser, so a path that is no file is index.html.

Where no bundle exists a small page says how to build it; sign-in, approval pages and the REST API work all the same.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from tailbox.coord.admin.console_bundle import find_bundle, icon_path
from tailbox.coord.admin.pages import PAGE_HEADERS, html_page, new_nonce
from tailbox.randomness import RandomSource

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {**PAGE_HEADERS, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
HASHED_ASSETS = "assets/"  # Vite puts a content hash into these names
NOT_BUILT = """
<p>The console is not part of this installation. In a checkout, build it with</p>
<pre>cd web &amp;&amp; npm ci &amp;&amp; npm run build</pre>
<p>and reload. The <a href="/api/docs">REST API</a> and device approval work without it.</p>
"""


class ConsolePages:
    """Serves one directory, read at every request so that a fresh build needs no restart."""

    def __init__(self, random: RandomSource, *, directory: Path | None = None) -> None:
        self._random = random
        self._directory = directory

    async def get(self, request: Request) -> Response:
        """A file of the bundle, or index.html for a route of the console's own."""
        directory = self._directory or find_bundle()
        if directory is None:
            return html_page("Console not built", NOT_BUILT, nonce=new_nonce(self._random), status=200)
        path = str(request.path_params.get("path", ""))
        found = file_below(directory, path)
        if found is not None and found.name != "index.html":
            caching = "public, max-age=31536000, immutable" if path.startswith(HASHED_ASSETS) else "no-cache"
            return FileResponse(found, headers={**HEADERS, "Cache-Control": caching})
        if path.startswith(HASHED_ASSETS):  # a page of an older build asks: HTML in place of a script would confuse it
            return PlainTextResponse("not found", 404, headers=HEADERS)
        return FileResponse(directory / "index.html", headers={**HEADERS, "Cache-Control": "no-cache"})


async def favicon(_request: Request) -> Response:
    """`/favicon.ico`, which browsers ask for on their own: the console's icon, or nothing."""
    path = icon_path()
    return Response(status_code=204) if path is None else RedirectResponse(path, 307)


def file_below(directory: Path, path: str) -> Path | None:
    """The regular file at a relative path, if it lies in the directory once every link is followed."""
    if not path or "\0" in path:
        return None
    root = directory.resolve()
    try:
        wanted = (root / path).resolve()
        return wanted if wanted.is_relative_to(root) and wanted.is_file() else None
    except (OSError, ValueError):
        return None
