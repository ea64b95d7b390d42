"""Samplers beyond one plan: guided, speculative, refined and remasked samples."""
