"""Speed and memory, measured in one run and printed as ratios: `make bench`."""
