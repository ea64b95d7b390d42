"""Sound codecs: FLAC by libFLAC and by the program flac."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from ardm.bench.codec import Absent, Codec, Decode, Encode, Setting, missing
from ardm.bench.samples import in_one, reel, signed, unsigned
from ardm.codec.header import Form
from ardm.content import Content, Samples

PROGRAM = "the program flac"
"""Required for the highest effort of FLAC."""


def _flac_refuses(content: Content) -> str:
    C, _, L = content.shape
    if C > 8 or not L or not 1 <= content.rate <= 655_350:
        return "holds 1 to 8 channels of at least one sample, at 1 to 655350 samples per second"
    return ""


def _sounds(name: str, about: str, encode: Encode, decode: Decode) -> Codec:
    together = in_one(name, encode, decode, reel, _flac_refuses)
    return Codec(name, about, encode, decode, _flac_refuses, lambda data: 42, together)


def bare_flac(data: bytes) -> bytes:
    """Remove all metadata blocks of a FLAC file except STREAMINFO, which is mandatory."""
    at, last = 4, False
    while not last:
        last = data[at] >= 128
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return data[:4] + b"\x80" + data[5:42] + data[at:]


def flac(name: str, setting: Setting) -> Codec:
    """FLAC by libFLAC (soundfile), at its highest level."""
    import soundfile

    def encode(content: Content) -> bytes:
        buffer = io.BytesIO()
        kind = "PCM_16" if content.is_16bit else "PCM_S8"
        soundfile.write(
            buffer, signed(content.samples), content.rate, format="FLAC", subtype=kind, compression_level=1.0
        )
        return bare_flac(buffer.getvalue())

    def decode(data: bytes, form: Form) -> Samples:
        return unsigned(soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)[0], form)

    about = f"soundfile {version('soundfile')}, {soundfile.__libsndfile_version__}"
    return _sounds(name, about, encode, decode)


def flac_tool(name: str, setting: Setting) -> Codec | Absent:
    """FLAC by the program flac, which has higher efforts."""
    tool = shutil.which("flac")
    if tool is None:
        return Absent(name, missing(PROGRAM))
    plain = [tool, "--silent", "--stdout", "--force-raw-format", "--endian=little", "--sign=signed"]

    def encode(content: Content) -> bytes:
        bits = 16 if content.is_16bit else 8
        y = signed(content.samples) if content.is_16bit else (signed(content.samples) >> 8).astype(np.int8)
        form = [f"--channels={content.shape[0]}", f"--bps={bits}", f"--sample-rate={content.rate}"]
        options = ["-8", "-e", "-p", "--lax", "--no-padding", "--no-seektable"]
        return bare_flac(_run([*plain, *options, *form, "-"], y.tobytes()))

    def decode(data: bytes, form: Form) -> Samples:
        flat = np.frombuffer(_run([*plain, "--decode", "-"], data), "<i2" if form.is_16bit else "i1")
        y = flat.astype("<i2").reshape(-1, form.shape[0])
        return unsigned(y if form.is_16bit else y << 8, form)

    return replace(_sounds(name, _run([tool, "--version"]).decode().strip(), encode, decode), outside=True)


def _run(command: list[str], data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
