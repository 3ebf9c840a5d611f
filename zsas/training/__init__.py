"""Training of localizers' own weights on a frozen CLIP: `zsas train adapters`."""
