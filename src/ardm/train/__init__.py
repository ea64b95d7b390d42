"""Training: recipes, objectives, the trainer, its checkpoints and log, and sharding."""
