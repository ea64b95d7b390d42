"""`ardm fit` on JSON lines: people of a census, packages of Debian, Python and npm, commits, and made-up events.

    python benchmarks/records.py --census adult_categorical.npz.xz --minutes 2
    python benchmarks/records.py --packages /var/lib/dpkg/status --python site-packages --npm node_modules --commits .
    python benchmarks/records.py --packages available.txt --events 2000 --items 2000

--census    the UCI Adult data (CC BY 4.0) as categories: an .npz with `train` (n, 13) and `columns`, perhaps in xz
--packages  the paragraphs of a Debian control file: what is installed here, or what `apt-cache dumpavail` writes
--python    the headers of all *.dist-info/METADATA in folders;  --npm: all package.json
--commits   the log of a git repository: author, time and subject
--events    so many made-up lines of a log, of users, paths, times, random identifiers and a message with a few words

Writes NAME.jsonl and NAME.model into --out, and prints the table of `ardm fit`: bytes an item on held-out lines, beside zstd
with a dictionary trained on the others.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def unpacked(path: Path) -> Any:
    """The arrays of an .npz, perhaps in xz."""
    data = path.read_bytes()
    return np.load(io.BytesIO(lzma.decompress(data) if path.suffix == ".xz" else data))


def people(path: Path) -> Iterator[dict[str, int]]:
    """The rows of the census by the names of their columns."""
    table = unpacked(path)
    names = [str(name) for name in table["columns"]]
    return (dict(zip(names, row, strict=True)) for row in table["train"].tolist())


def control(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file, without lines that continue another."""
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.split("\n") if ": " in line and not line.startswith(" ")]
        if lines:
            yield dict(line.split(": ", 1) for line in lines)


def packages(path: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of the file of a package manager."""
    return control(path.read_text(errors="replace"))


def python(folder: Path) -> Iterator[dict[str, str]]:
    """The headers of Python's packages, each once."""
    texts = {path.read_text(errors="replace").split("\n\n")[0] for path in folder.rglob("*.dist-info/METADATA")}
    return (record for text in sorted(texts) for record in control(text))


def npm(folder: Path) -> Iterator[Any]:
    """The descriptions of npm's packages, each once."""
    texts = {path.read_text(errors="replace") for path in folder.rglob("package.json")}
    return (json.loads(text) for text in sorted(texts))


def commits(repository: Path) -> Iterator[dict[str, str]]:
    """The commits of a repository."""
    words = ["git", "-C", str(repository), "log", "--format=%h%x00%an%x00%ae%x00%aI%x00%s"]
    for line in subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines():
        yield dict(zip(("commit", "author", "email", "time", "subject"), line.split("\0"), strict=True))


WORDS = ("connection", "timeout", "user", "cache", "session", "retry", "upload", "queue", "token", "expired", "shard")


def events(count: str) -> Iterator[dict[str, Any]]:
    """A log of a web service."""
    made, now = random.Random(16), 1764400000.0
    users = [f"user{made.randrange(10**6):06}" for _ in range(300)]
    for _ in range(int(count)):
        now += made.expovariate(3)
        path = made.choice(["/", "/login", "/cart", "/api/v2/items", "/api/v2/orders", "/static/app.js"])
        yield {
            "time": f"{now:.3f}", "level": made.choices(["info", "warning", "error"], [20, 3, 1])[0],
            "user": made.choice(users), "path": path, "status": made.choices([200, 304, 404, 500], [30, 6, 3, 1])[0],
            "ms": round(made.lognormvariate(3, 1), 1), "request": f"{made.getrandbits(64):016x}",
            "message": " ".join(made.choices(WORDS, k=made.randint(2, 8))),
        }  # fmt: skip


def write(records: Iterable[object], path: Path, most: int) -> None:
    """JSON lines: at most so many, evenly spread."""
    found = list(records)
    number = min(most, len(found))
    some = (found[n * len(found) // number] for n in range(number))
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in some))


SOURCES: dict[str, Callable[[Any], Iterable[object]]] = {
    "census": people, "packages": packages, "python": python, "npm": npm, "commits": commits, "events": events,
}  # fmt: skip


def fit(samples: Path, name: str, out: Path, minutes: float) -> None:
    """Fit out/NAME.model to samples; prints the table of `ardm fit`."""
    words = ["fit", samples, "-o", out / f"{name}.model", "-f", "--minutes", minutes]
    print(f"\n{name}: {minutes:g} minutes", flush=True)
    subprocess.run([sys.executable, "-m", "ardm", *map(str, words)], check=True)


def main() -> None:
    """Write the lines, and fit a codec to them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=str if name == "events" else Path)
    parser.add_argument("--items", type=int, default=10**6, help="at most so many of each")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    for name, read in SOURCES.items():
        source = getattr(options, name)
        if source is None:
            continue
        lines = options.out / f"{name}.jsonl"
        write(read(source), lines, options.items)
        fit(lines, name, options.out, options.minutes)


if __name__ == "__main__":
    main()
