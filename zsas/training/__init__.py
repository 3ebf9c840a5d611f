"""Training of the tiny models and of adapters, from made images only."""
