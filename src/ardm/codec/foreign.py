"""Files of other kinds, by their first bytes."""

from __future__ import annotations

FOREIGN = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"RIFF", "a WebP image or a WAV file"),
    (b"\xff\x0a", "a JPEG XL image"), (b"\0\0\0\x0cJXL ", "a JPEG XL image"), (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"), (b"MM\0*", "a TIFF image"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"PK\x03\x04", "a zip archive"), (b"%PDF", "a PDF"),
    (b"fLaC", "a FLAC file"), (b"OggS", "an Ogg file"), (b"ID3", "an MP3 file"), (b"\x93NUMPY", "a NumPy array"),
    (b"\xc2\xad\xc3\x91", "an ardm file that was copied as text"),
    (b"\xc2\xad\xc2\xa1", "an ardm archive that was copied as text"),
    (b"\xef\xbf\xbd", "a binary file that was copied as text"), (b"BM", "a BMP image"), (b"P5", "a PGM image"),
    (b"P6", "a PPM image"),
)  # fmt: skip
"""The first bytes of other kinds of files."""


def looks_like(data: bytes) -> str:
    """What a file that begins so looks like; "" if nothing known."""
    return next((name for start, name in FOREIGN if data.startswith(start)), "")
