"""Trained models to codec models: networks in floats to programs in integers."""
