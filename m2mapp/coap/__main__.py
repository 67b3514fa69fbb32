"""`python -m m2mapp.coap`: a name for the command in `m2mapp.watching`, where it is looked for. Nothing imports this module."""

from __future__ import annotations

import sys

from m2mapp.watching import main

if __name__ == "__main__":
    sys.exit(main())
