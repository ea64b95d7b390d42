"""`ardm bench`: this codec and classical ones on the same files, as a table, JSON, Markdown or a picture."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ardm import formats
from ardm.atomic import reasons, refuse_source, refuse_target, write_whole
from ardm.bench.classical import classical, cut, others
from ardm.bench.codec import Absent, Codec
from ardm.bench.compare import PEAK, Comparison, Row, at_levels, bare, markdown, measure, plain
from ardm.bench.machine import facts
from ardm.bench.plot import ENDINGS, draw
from ardm.cli.console import console, dump, fail, guard, note, say, show
from ardm.cli.options import CodecModel, bytes_of
from ardm.cli.progress import Bar
from ardm.codec.registry import model as known_model
from ardm.codec.selection import Engine
from ardm.content import ENDING, Content, Kind
from ardm.errors import ArdmError
from ardm.files.limits import PIXELS, Budget, amount, mebibytes, storing

LEVELS = range(1, 10)
SHARED = "Shared data: bytes that both sides need once for all files: a dictionary, other files, a model."

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of one kind, or folders of them.")]
Levels = Annotated[str, typer.Option(help="Levels of this codec to measure, such as 1,5,9 or 1-9; all; or none.")]
Train = Annotated[Path | None, typer.Option(help="Train zstd's dictionary and PPMd on the files in this folder.")]
Split = Annotated[bool, typer.Option("--split", help="Measure every second item, and train on the others.")]
Size = Annotated[int, typer.Option("--cut", help="Cut files of bytes into items of this many bytes; 0: whole.", min=0)]
Number = Annotated[int, typer.Option("--number", "-n", help="Measure at most this many items; 0: all.", min=0)]
Together = Annotated[bool, typer.Option("--items", help="Also measure all items together, as an archive.")]
Threads = Annotated[
    int, typer.Option("--threads", "-T", help="Processor threads of each codec; 0: one per core.", min=0, max=1024)
]
Backend = Annotated[str, typer.Option(help="Arithmetic of the network, as for ardm compress.")]
Device = Annotated[str, typer.Option(help="Device of the network, as for ardm compress.")]
Memory = Annotated[
    str, typer.Option("--memory", "-M", metavar="SIZE", help="Refuse files that need more memory, such as 512MiB.")
]
Pixels = Annotated[int, typer.Option("--max-pixels", help="Measure images of more pixels as bytes.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON, sizes of single items included.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--output",
        "-o",
        "--picture",
        "-p",
        help="Write the results: .json, .md, or a picture (.png, .svg, .pdf).",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file of --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(bench)


def bench(
    files: Files,
    model: CodecModel = None,
    levels: Levels = "1,5,9",
    train: Train = None,
    split: Split = False,
    size: Size = 0,
    number: Number = 0,
    together: Together = False,
    threads: Threads = 1,
    backend: Backend = "auto",
    device: Device = "auto",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    as_json: Json = False,
    as_markdown: Markdown = False,
    out: Out = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare with classical codecs on the same files.

    Measures sizes and seconds of PNG, WebP, JPEG XL, FLAC, PPMd, zstd and others, each file alone.  Every result is
    decoded again and compared.  Only samples count: no codec gets the metadata.  Codecs that learn (zstd's dictionary,
    PPMd) need other files to learn from: --train FOLDER or --split.
    """
    chosen, budget = _levels(levels), Budget(bytes_of(memory), max_pixels)
    if train is not None and split:
        raise typer.BadParameter("--train names other files and --split takes some of these; give one of them")
    with guard():
        _refuse_out(out, force)
        if model is not None:
            known_model(model)  # raises ArdmError where there is none
        items, training = _items(files, train, split, size, number, budget)
        with Bar(quiet) as bar:
            codecs = classical(items, training, threads or os.cpu_count() or 1)
            rows = _measured(codecs, items, together, bar)
            own, why = at_levels(Engine(model, backend=backend, device=device, threads=threads), chosen, items[0])
            rows = _measured(own, items, together, bar, own=True) + rows
        if why:
            note(f"no model codes these files ({why}); ardm stores them without one")
        compared = Comparison(items, rows, facts(threads))
        _show(compared, as_json, as_markdown)
        if out is not None:
            write_whole(out, lambda path: _write(compared, path), force)
            note(f"wrote {out}")
        _complain(rows)


def _write(compared: Comparison, path: Path) -> None:
    """Write results in the format of the ending."""
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(compared.record(), indent=1) + "\n", encoding="utf-8")
    elif path.suffix.lower() == ".md":
        path.write_text(markdown(*compared.table()) + "\n", encoding="utf-8")
    else:
        draw(compared, path)


def _levels(text: str) -> list[int]:
    if text in ("all", "none"):
        return [] if text == "none" else list(LEVELS)
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch("([1-9])(?:-([1-9]))?", part)
        levels = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not levels:
            raise typer.BadParameter(f"levels are numbers from 1 to 9 such as 1,5,9 or 1-9, all, or none; got {text!r}")
        chosen.update(levels)
    return sorted(chosen)


def _refuse_out(out: Path | None, force: bool) -> None:
    """Refuse, before any work, a file that could not be written afterwards."""
    if out is None:
        return
    if out.suffix.lower() not in (*ENDINGS, ".json", ".md"):
        raise ArdmError(f"{out}: results need a name that ends in {', '.join(ENDINGS)}, .json or .md")
    with reasons(f"cannot write {out}"):
        refuse_target(out, force)


# --- items ------------------------------------------------------------------------------------------------------------


def _items(
    files: Sequence[Path], train: Path | None, split: bool, size: int, number: int, budget: Budget
) -> tuple[list[Content], list[Content]]:
    """Items to measure, and other items to train on."""
    whole = [content for path in _expanded(files) for content in _read(path, budget)]
    if not whole:
        raise ArdmError(f"there is nothing to measure in {', '.join(map(str, files))}")
    kinds = Counter(content.kind for content in whole)
    if len(kinds) > 1:
        counts = ", ".join(f"{count} of kind {kind.name.lower()}" for kind, count in kinds.items())
        raise ArdmError(f"measure files of one kind at a time; got {counts}")
    items = [item for content in whole for item in cut(content, size)]
    training = _training(train, next(iter(kinds)), whole, size, budget)
    if split:
        items, training = items[::2], items[1::2]
    items = items[: number or None]
    return items, others(training, items)


def _training(folder: Path | None, kind: Kind, measured: Sequence[Content], size: int, budget: Budget) -> list[Content]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ArdmError(f"there is no folder {folder} to train on")
    contents = [content for path in _expanded([folder]) for content in _read(path, budget) if content.kind == kind]
    fresh = others(contents, measured)
    if len(fresh) < len(contents):
        note(f"{len(contents) - len(fresh)} of the {len(contents)} to train on are also measured, and left out")
    return [item for content in fresh for item in cut(content, size)]


def _expanded(paths: Iterable[Path]) -> list[Path]:
    """Files, and those in folders, sorted; without hidden files and those that are already compressed."""
    found = []
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if not any(n.startswith(".") for n in p.relative_to(path).parts))
            found += sorted(p for p in inside if p.is_file() and p.suffix.lower() != ENDING)
        else:
            found.append(path)
    return found


def _read(path: Path, budget: Budget) -> list[Content]:
    """Read a file as items; only a `.npy` file (N, ...) has several."""
    refuse_source(path)
    with reasons(f"cannot read {path}"):
        need = storing(path.stat().st_size)
        if need > budget.memory:
            raise ArdmError(
                f"{path} needs some {amount(need)} of memory, and the limit is {amount(budget.memory)}; "
                f"-M {mebibytes(need)} allows it"
            )
        data = path.read_bytes()
    several = formats.items(data) if formats.sniff(data[:64]) == "npy" else None
    if several:
        return list(map(bare, several))
    read = formats.read(data, path.name, True, budget.refuses)
    if read.content.kind == Kind.BYTES:  # perhaps it looked like an image or a sound
        for text in read.notes:
            note(f"{path}: {text}")
    return [bare(read.content)]


def _measured(
    codecs: Sequence[Codec | Absent], items: Sequence[Content], together: bool, bar: Bar, own: bool = False
) -> list[Row]:
    rows = []
    for codec in codecs:
        rows.append(measure(codec, items, own, together, bar.ticker(codec.name, len(items))))
        bar.stop()
    return rows


# --- results ----------------------------------------------------------------------------------------------------------


def _show(compared: Comparison, as_json: bool, as_markdown: bool) -> None:
    if as_json:
        dump(compared.record())
        return
    heads, cells = compared.table()
    say(compared.title)
    if as_markdown or not console.is_terminal:
        say("", *(markdown if as_markdown else plain)(heads, cells).split("\n"), "")
    else:
        _show_rich(compared, heads, cells)
    machine = compared.facts["machine"]
    say(PEAK)
    if any(row.shared for row in compared.rows):
        say(SHARED)
    say(
        f"{compared.facts['date']}, {machine['processor']}, {machine['threads']} threads; {'; '.join(compared.versions())}"
    )


def _show_rich(compared: Comparison, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    table, missing = Table(box=None, header_style="bold"), Table(box=None, show_header=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", no_wrap=True)
    for row, texts in zip(compared.rows, cells, strict=True):
        style = "cyan" if row.ours else "bold" if row is compared.best else ""
        (table if row.measured else missing).add_row(*map(Text, texts), style=style if row.measured else "dim")
    show(table)
    if missing.row_count:
        show(missing)


def _complain(rows: Sequence[Row]) -> None:
    failed = [row.name for row in rows if row.failed]
    if failed:
        fail(f"failed, and not measured: {', '.join(failed)}")
        raise typer.Exit(1)
