"""Training: recipe, trainer, log and sharding."""
