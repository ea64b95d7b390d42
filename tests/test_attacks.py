"""Past attacks: files made to lose data on the way, or to use all memory or time."""

import io
import json
import re
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from ardm import formats
from ardm.codec import decode, encode, regions
from ardm.codec.archive import compress_archive
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.exact.model import NAME, load
from ardm.files.compress import compress_file
from ardm.files.names import safe_names
from ardm.files.options import FileOptions
from ardm.files.restore import decompress_file
from bundles import exact


def npy(shape, data=b""):
    text = str({"descr": "<i4", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


def png(*chunks, end=b""):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    whole = file.getvalue()
    at = whole.index(b"IDAT") - 4

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return whole[:at] + b"".join(chunk(*c) for c in chunks) + whole[at:-12] + chunk(b"IEND", end)


@pytest.mark.parametrize("data", [
    npy((-3,)), npy((-1, -3), bytes(12)), npy((True, 3), bytes(12)), npy((0, 10**22)),
    png((b"=abc", b"precious")), png((b"=dat", b"precious")), png((b"a=bc", b"precious")), png(end=b"a body"),
], ids=repr)  # fmt: skip
def test_everything_comes_back_before_the_source_goes(data, tmp_path):
    source = tmp_path / "x.bin"
    source.write_bytes(data)
    assert compress_file(source, None, FileOptions(keep=False)).removed
    decompress_file(tmp_path / "x.bin.ardm", source)
    assert source.read_bytes() == data


def test_a_content_that_cannot_be_rebuilt_is_kept_byte_for_byte(tmp_path, monkeypatch):
    """If a format's reader makes a mistake, the file as a whole is stored instead."""
    source = tmp_path / "x.png"
    source.write_bytes(png())
    monkeypatch.setattr(formats, "render", lambda content, format="": png((b"tEXt", b"other\0thing")))
    done = compress_file(source)
    assert any("byte for byte" in note for note in done.notes)
    monkeypatch.undo()
    decompress_file(tmp_path / "x.png.ardm", tmp_path / "back.png")
    assert (tmp_path / "back.png").read_bytes() == png()


def archive(names):
    return compress_archive([Content.of_bytes(b"") for _ in names], names)[0]


def test_names_are_not_deep():
    with pytest.raises(ArdmError, match="4096 bytes"):
        archive(["a/" * 3000 + "x"])


def test_names_that_fold_together_take_no_time():
    names = [format(n, "014b").translate({48: "a", 49: "A"}) for n in range(1 << 14)]
    began = time.perf_counter()
    assert len(set(safe_names(names))) == len(names)
    assert time.perf_counter() - began < 20


def test_tags_that_overlap_are_not_followed():
    body, count = bytes(1 << 20), 2000
    entries = b"".join(struct.pack("<HHII", 1000 + k, 1, len(body), 8) for k in range(count))
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", count) + entries + bytes(4)
    found = formats.read(data)
    assert found.content.kind == Kind.BYTES


def test_what_is_stored_does_not_pile_up_behind_a_model(monkeypatch):
    """Regions without a job are handed out although no job came, and those behind a job before too much is held."""
    from bundles import coder

    monkeypatch.setattr(regions, "WAITING", 1 << 16)
    loaded = []

    def contents():
        for k in range(40):
            loaded.append(k)
            picture = Content(Kind.IMAGE, np.full((3, 8, 8), k, "u1") + np.arange(8, dtype="u1"), "png")
            yield picture if k % 20 == 0 else Content.of_bytes(bytes(range(256)) * 64)

    ahead = [loaded[-1] - k for k, _ in enumerate(encode.encode_contents(contents(), coder()))]
    assert len(ahead) == 40
    assert max(ahead) <= 5


def model(**changes):
    """The file of a codec model whose JSON was changed."""
    made = exact()
    content = json.loads(json.dumps(made._content))
    card = changes.pop("card", {})
    for path, value in changes.items():
        where = content
        *steps, last = path.split("__")
        for step in steps:
            where = where[int(step)] if step.isdigit() else where[step]
        where[last] = value
    about = {"ardm-codec": "1", "content": json.dumps(content), "golden": made.golden, "card": json.dumps(card)}
    return save({k: np.ascontiguousarray(v) for k, v in made._tensors.items()}, about)


@pytest.mark.parametrize("changes", [
    {"default": 8.0}, {"lead": 0.0}, {"lead": True}, {"card": []}, {"card": "x"}, {"program__size": [0, 8]},
    {"program__size": [8192, 8192]}, {"program__ops__0__integers": []}, {"program__ops__0__tensors": []},
    {"program__ops": [{"op": "concat", "out": f"c{k}", "in": [f"c{k - 1}" if k else "value"] * 2, "integers": {}, "tensors": {}}
                      for k in range(30)]},
], ids=str)  # fmt: skip
def test_models_that_are_made_to_do_harm(changes, tmp_path):
    (tmp_path / NAME).write_bytes(model(**changes))
    began = time.perf_counter()
    with pytest.raises(ArdmError):
        from ardm.codec import registry

        registry.coder(tmp_path, threads=1)
    assert time.perf_counter() - began < 10


def test_deep_json_is_no_traceback(tmp_path):
    made = exact()
    about = {"ardm-codec": "1", "content": "[" * 100_000, "golden": made.golden, "card": "{}"}
    (tmp_path / NAME).write_bytes(save({k: np.ascontiguousarray(v) for k, v in made._tensors.items()}, about))
    with pytest.raises(ArdmError, match="not a readable codec model"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["null", "[]", "{}", "7", '{"program": null}', "[" * 100_000, "{", '{"program": [1]}', '{"sites": "a"}'],
    ids=lambda text: text[:20],
)
def test_errors_of_unreadable_models_name_no_classes(tmp_path, content):
    made = exact()
    about = {"ardm-codec": "1", "content": content, "golden": made.golden, "card": "{}"}
    for texts in (about, {**about, "card": content}, {"ardm-codec": "1"}):
        (tmp_path / NAME).write_bytes(save({k: np.ascontiguousarray(v) for k, v in made._tensors.items()}, texts))
        with pytest.raises(ArdmError, match="readable codec model") as caught:
            load(tmp_path)
        assert not re.search(r"[A-Z][a-z]+Error|NoneType|object", str(caught.value)), str(caught.value)


def test_orders_of_floats_are_no_orders(tmp_path):
    made = exact()
    tensors = {k: np.ascontiguousarray(v) for k, v in made._tensors.items()} | {"order.8": np.zeros((1, 3, 4, 4), "f4")}
    about = {"ardm-codec": "1", "content": json.dumps(made._content), "golden": made.golden, "card": "{}"}
    (tmp_path / NAME).write_bytes(save(tensors, about))
    with pytest.raises(ArdmError, match="not integers"):
        load(tmp_path)


def test_an_about_block_of_a_million_entries():
    about = {f"n{k}": b"" for k in range(5000)}
    data = encode.compress(Content(Kind.IMAGE, np.zeros((1, 2, 2), "u1"), "png", about))[0]
    with pytest.raises(CodecError, match="4096 entries"):
        decode.decompress(data, lambda identity, calls: None)


def test_threads_without_number():
    done = subprocess.run(
        [sys.executable, "-m", "ardm", "compress", "-T", "100000", "x"], capture_output=True, check=False
    )
    assert done.returncode == 2
