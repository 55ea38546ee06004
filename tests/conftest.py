"""What holds for every test: Hypothesis judges results, not how long a busy machine took for them.

With CI set the examples are the same at every run, so that a change is judged by what it changes; everywhere else they
are new each time, and what they find becomes a named test.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("tailbox", deadline=None)  # pytest-timeout ends what hangs
settings.register_profile("ci", parent=settings.get_profile("tailbox"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "tailbox")
