"""Causal programs along wavefronts in C: whole walks, with the entropy coder.  Optional, and never another integer."""
