"""The file format and its coder."""
