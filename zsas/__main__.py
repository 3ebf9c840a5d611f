"""`python -m zsas` is the `zsas` command."""

from __future__ import annotations

from zsas.cli import main

if __name__ == "__main__":
    main()
