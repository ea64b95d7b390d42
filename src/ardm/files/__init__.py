"""One file in, one file out; folders to archives and back."""
