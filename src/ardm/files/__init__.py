"""Files in, files out: compressed, restored, packed into archives and unpacked, within limits on memory and time."""
