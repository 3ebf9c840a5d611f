"""The `zsas` command, one file for each group of commands. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from zsas.cli import compare, models, part, segment, serve, settings, systems, watch
from zsas.cli.root import app, delegate, main

app.command()(segment.segment)
app.command()(compare.compare)
app.add_typer(models.app, name="models")
app.add_typer(part.app, name="part")
app.command("serve")(serve.serve)
app.command()(watch.watch)
app.command("settings")(settings.print_settings)
app.command("systems")(systems.list_systems)
delegate("evaluate", "zsas.cli.evaluate", "Measure on a data set, with the paper's ablations.")
delegate("train", "zsas.training.cli", "Train what a system learns.")

__all__ = ["app", "main"]
