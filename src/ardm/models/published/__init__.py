"""Published checkpoints of other projects as any-order models; one file an architecture, listed in `registry`."""
