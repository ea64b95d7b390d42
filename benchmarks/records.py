"""`ardm fit` on JSON lines that are real: people of a census, one record each, and the packages of a Debian system.

    python benchmarks/records.py --census adult_categorical.npz.xz --minutes 2
    python benchmarks/records.py --packages /var/lib/dpkg/status --minutes 5

--census    the UCI Adult data (CC BY 4.0) as categories: an .npz with `train` (n, 13) and `columns`, perhaps in xz
--packages  the paragraphs of a Debian control file, such as the list of what is installed here

Writes NAME.jsonl and NAME.model into --out, and prints the table of `ardm fit`: bytes an item on held-out lines, beside zstd
with a dictionary trained on the others.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


def people(path: Path) -> Iterator[dict[str, int]]:
    """The rows of the census by the names of their columns."""
    data = path.read_bytes()
    table = np.load(io.BytesIO(lzma.decompress(data) if path.suffix == ".xz" else data))
    names = [str(name) for name in table["columns"]]
    return (dict(zip(names, row, strict=True)) for row in table["train"].tolist())


def packages(path: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file, without lines that continue another."""
    for paragraph in path.read_text(errors="replace").split("\n\n"):
        lines = [line for line in paragraph.split("\n") if ": " in line and not line.startswith(" ")]
        if lines:
            yield dict(line.split(": ", 1) for line in lines)


def write(records: Iterable[object], path: Path) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))


def main() -> None:
    """Write the lines, and fit a codec to them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--census", type=Path)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--items", type=int, default=10**6, help="at most so many of each")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    sources = {"census": (options.census, people), "packages": (options.packages, packages)}
    for name, (source, read) in sources.items():
        if source is None:
            continue
        lines = options.out / f"{name}.jsonl"
        write(list(read(source))[: options.items], lines)
        words = ["fit", lines, "-o", options.out / f"{name}.model", "-f", "--minutes", options.minutes]
        subprocess.run([sys.executable, "-m", "ardm", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
