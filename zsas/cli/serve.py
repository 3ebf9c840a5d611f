"""`zsas serve`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from zsas import flags


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on: 127.0.0.1 reaches this machine only, 0.0.0.0 lets others in.",
            metavar="ADDRESS",
            envvar="GRADIO_SERVER_NAME",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port; the first free one from 7860 on if it is left out.",
            min=1,
            max=65535,
            envvar="GRADIO_SERVER_PORT",
        ),
    ] = None,
    preset: flags.Preset = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="A part profile that every visitor begins with.",
            metavar="FILE",
            envvar="ZSAS_PART",
        ),
    ] = None,
) -> None:
    """Start the page and wait until somebody ends it.

    Needs `pip install 'zsas[ui]'`. Further variables are listed in docs/space.md.
    """
    from zsas.ui.serve import serve

    if part is not None:
        from zsas.part import Part

        preset = preset or Part.load(part).models.preset
        os.environ["ZSAS_PART"] = part
    if preset is not None:
        os.environ["ZSAS_PRESET"] = preset
    options = {"server_name": host, "server_port": port}
    serve(**{name: value for name, value in options.items() if value is not None})
