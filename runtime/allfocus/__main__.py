"""`python -m allfocus`: the same as the command `allfocus`."""

from __future__ import annotations

import sys

from allfocus.cli import main

if __name__ == "__main__":
    sys.exit(main())
