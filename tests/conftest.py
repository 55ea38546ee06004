"""What holds for every test: Hypothesis judges results, not how long a busy machine took for them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tailbox", deadline=None)  # pytest-timeout ends what hangs
settings.load_profile("tailbox")
