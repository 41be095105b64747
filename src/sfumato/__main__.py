"""``python -m sfumato`` is the command line ``sfumato``."""

from __future__ import annotations

import sys

from sfumato.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
