"""`python -m shared.probe [URL]`: the health check of the images, which hold no curl; says what is not ready."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Final

# Every role listens there in its container.
READY: Final = "http://127.0.0.1:8000/readyz"
_SECONDS: Final = 4.0


def main(url: str = READY) -> None:
    """End with 0 if a role answers that it is ready, else with 1 and what it said."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is in this very container
    try:
        with opener.open(url, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.read(1_000).decode(errors='replace')}")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:2])
