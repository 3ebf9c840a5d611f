"""The page: `python app.py`. On a Space this file is all that is run."""

from __future__ import annotations

from zsas.ui.serve import serve

if __name__ == "__main__":
    serve()
