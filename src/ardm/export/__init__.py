"""Trained models converted to integer models."""
