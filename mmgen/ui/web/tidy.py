"""What a Space clears away besides visitors' folders: files handed out and taken in, and models fetched for them."""

from __future__ import annotations

from mmgen.loading.fetch import forget_fetched
from mmgen.ui.web.files import sweep_cache

CACHE_SECONDS = 2 * 3600.0
MODEL_SECONDS = 86400.0
MODEL_BYTES = 10e9


def clear_away() -> None:
    """Remove what is old; whatever is asked for again is fetched or made again."""
    sweep_cache(CACHE_SECONDS)
    forget_fetched(MODEL_SECONDS, MODEL_BYTES)
