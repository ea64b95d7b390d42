"""Files in, files out: compress, restore, pack into archives and unpack, within limits on memory and time."""
