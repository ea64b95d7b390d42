"""The data of the demo: models, sample pictures and files as scripts, which a page from a folder can read.

MkDocs calls `on_files`, so that every build of the site has the models of its commit.  Without MkDocs:

    python docs/demo/build.py FOLDER     the whole demo, to be opened by a double click on FOLDER/index.html

The standard library is enough.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ASSETS = ROOT / "src" / "ardm" / "assets"
MODELS = {
    name: ASSETS / name / "codec.safetensors" for name in ("pictures-small", "pictures", "grey", "cifar10-any-order")
}
"""The models that the page has."""
PICTURES = ("cat", "astronaut", "coffee", "tiles")
"""Sample pictures, from the demo of the package."""
FILES = {"a cat, in any order": HERE / "samples" / "cat-any-order.ardm"}
"""Sample files."""
CODES = {"I8": "b", "I16": "h", "I32": "i", "I64": "q"}


def identity(data: bytes) -> str:
    """The identity of a model, 64 hex digits, from its file, as docs/exact.md defines it."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    content = json.loads(header.pop("__metadata__")["content"])
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    sha = hashlib.sha256(struct.pack("<Q", len(text)) + text)
    for name in sorted(header):
        entry = header[name]
        first, last = entry["data_offsets"]
        numbers = array(CODES[entry["dtype"]], data[8 + size + first : 8 + size + last])
        wide = array("q", numbers)
        if sys.byteorder == "big":
            wide.byteswap()
        sha.update(f"{name}:{','.join(map(str, entry['shape']))};".encode() + wide.tobytes())
    return sha.hexdigest()


def base64_of(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def packed(data: bytes) -> str:
    """Bytes deflated, as text."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64_of(coder.compress(data) + coder.flush())


def call(name: str, *values: Any) -> str:
    """A script that gives values to the page."""
    return f"ARDM.{name}({', '.join(json.dumps(value, separators=(',', ':')) for value in values)});\n"


def scripts(models: Mapping[str, Path] = MODELS) -> Iterator[tuple[str, str]]:
    """The scripts of the data: name in the folder of the demo, and text.  models: their files."""
    known = []
    for name, path in models.items():
        data = path.read_bytes()
        known.append({"name": name, "short": identity(data)[:4], "bytes": len(data)})
        yield f"data/{name}.js", call("receiveModel", name, packed(data))
    sizes = json.loads((HERE / "samples" / "sizes.json").read_text(encoding="utf-8"))
    pictures = {name: base64_of((ASSETS / "demo" / f"{name}.png").read_bytes()) for name in PICTURES}
    files = {name: base64_of(path.read_bytes()) for name, path in FILES.items()}
    yield "data/index.js", call("receiveIndex", {"models": known, "sizes": sizes, "pictures": pictures, "files": files})


def on_files(files: Any, config: Any) -> Any:
    """The hook of MkDocs: add the data to the files of the site."""
    from mkdocs.structure.files import File

    for name, text in scripts():
        files.append(File.generated(config, f"demo/{name}", content=text))
    return files


def build(folder: Path, models: Mapping[str, Path] = MODELS) -> None:
    """Write the whole demo into a folder; models: their files."""
    parts = [path for pattern in ("*.html", "*.css", "js/*.js") for path in sorted(HERE.glob(pattern))]
    written = {path.relative_to(HERE).as_posix(): path.read_text(encoding="utf-8") for path in parts}
    for name, text in {**written, **dict(scripts(models))}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]))
