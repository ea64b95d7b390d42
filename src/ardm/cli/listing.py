"""`ardm list`: the headers of files, as a table or as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ardm.atomic import reasons, refuse_source
from ardm.cli.batch import Place, for_each, found_in, reporting
from ardm.cli.console import EXITS, dump, guard, say
from ardm.cli.options import Packed, Recursive, bytes_of
from ardm.cli.progress import Bar
from ardm.codec.archive import Archive, open_archive
from ardm.codec.describe import describe
from ardm.codec.report import FrameInfo
from ardm.codec.selection import known_name
from ardm.errors import ArdmError
from ardm.files.limits import UNLIMITED, refuse_foreign
from ardm.files.paths import is_ours
from ardm.files.results import described, overview

MODELS = "config.json", "codec.safetensors"
"""Files that make a folder that of a model."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("list", epilog=EXITS)(list_files)


def list_files(
    files: Packed,
    recursive: Recursive = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also list items of archives, and frames.")] = False,
    bare: Annotated[bool, typer.Option("--bare", help="The files are bare: made with compress --bare.")] = False,
    memory: Annotated[
        str, typer.Option("--memory", "-M", metavar="SIZE", help="Read at most this much standard input.")
    ] = "2GiB",
) -> None:
    """Show what compressed files hold.

    Reads headers only: nothing is decoded, and no model is needed.
    """
    with guard(), Bar(quiet=True) as bar:
        records: list[dict[str, Any]] = []

        def one(source: Path | BinaryIO, target: object) -> None:
            records.append(record(source, verbose, bare))

        found, left = found_in(files, recursive, packed=True)
        try:
            with reporting(left, bar):
                for_each(found, Place(writes=False), one, None, bar, seekable=bytes_of(memory))
        finally:
            if as_json:
                dump(records)
            elif records:
                table(records)


def record(source: Path | BinaryIO, verbose: bool, bare: bool = False) -> dict[str, Any]:
    """The headers of a file, as `list --json` prints them."""
    if isinstance(source, Path):
        if any((source / name).is_file() for name in MODELS):
            raise ArdmError(f"{source} holds a model: `ardm models {source}` shows its orders and schedules")
        refuse_source(source)
        with reasons(f"cannot read {source}"), source.open("rb") as file:
            return {"file": str(source), **_described(file, is_ours(source), verbose, bare)}
    return {"file": None, **_described(source, False, verbose, bare)}


def _described(file: BinaryIO, ours: bool, verbose: bool, bare: bool) -> dict[str, Any]:
    if not bare:
        refuse_foreign(file, ours)
    at = file.tell()
    infos = describe(file, bare)
    whole = overview(infos)
    facts = {**_facts(whole, len(infos)), "frames": len(infos), "items": whole.items, "lines": whole.lines}
    if verbose and whole.items is not None:
        file.seek(at)
        archive = open_archive(file, UNLIMITED)
        names = archive.names or [None] * len(archive)
        facts["entries"] = [
            {"name": name, **_facts(archive.info(k)), **_entry(archive, k)} for k, name in enumerate(names)
        ]
    elif verbose and len(infos) > 1:
        facts["entries"] = [{"name": None, **_facts(info)} for info in infos]
    return facts


def _entry(archive: Archive, number: int) -> dict[str, Any]:
    """What an item stands for, if it is not a file."""
    entry, leads = archive.entry(number)
    return {"kind": entry, "size": "-", "target": os.fsdecode(leads)} if entry else {}


def _facts(info: FrameInfo, count: int = 1) -> dict[str, Any]:
    """The record of one or several frames, an archive or an item."""
    return {
        "kind": "mixed" if info.kind is None else info.kind.name.lower(),
        "origin": info.origin,
        "size": described(info, count),
        "shape": list(info.shape),
        "bits": 16 if info.is_16bit else 8,
        "rate": info.rate,
        "layout": info.layout,
        "about": info.about,  # this and the schedule may be long, and items share them
        "samples": info.samples,
        "raw_bytes": info.raw_bytes,
        "file_bytes": info.file_bytes,
        "header_bytes": info.header_bytes,
        "ratio": info.ratio,
        "bits_per_sample": info.bits_per_sample,
        "model": info.model,
        "model_name": "+".join(map(known_name, info.model.split("+"))),
        "calls": info.calls,
        "schedule": info.schedule,
        "regions": info.regions,
        "methods": dict(info.methods),
        "check": info.check,
        "content_check": None if info.content_check is None else f"{info.content_check:08x}",
    }


_HEADS = (
    "kind",
    "size",
    "bytes",
    "raw",
    "ratio",
    "bits/sample",
    "model",
    "calls",
    "methods",
    "check",
    "file",
)


def table(records: Sequence[dict[str, Any]]) -> None:
    """Print a table as wide as it needs, with names of files last."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for one in records:
        rows.append(_row(one, one["file"] or "-"))
        each = "" if one["items"] is not None else "frame "
        for k, entry in enumerate(one.get("entries", [])):
            leads = f" -> {entry['target']}" if entry["kind"] == "link" else ""
            rows.append(_row(entry, f"  {each}{k} {entry['name'] or ''}{leads}"))
    if len(records) > 1:
        rows.append(_total(records))
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADS) - 1)]
    for row in rows:
        say("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def _row(r: dict[str, Any], name: str) -> tuple[str, ...]:
    kind = f"{r['kind']} ({r['origin']})" if r["origin"] else r["kind"]
    return (
        kind, r["size"], str(r["file_bytes"]), str(r["raw_bytes"]), f"{r['ratio']:.2f}", f"{r['bits_per_sample']:.3f}",
        r["model_name"] or "-", f"{r['calls'] or '-'}{' planned' * bool(r['schedule'])}", "+".join(r["methods"]), f"{r['check']} bits" if r["check"] else "none",
        name,
    )  # fmt: skip


def _total(records: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The last row: the sums over all files."""
    bytes_, raw, samples = (sum(r[key] for r in records) for key in ("file_bytes", "raw_bytes", "samples"))
    ratio, bits = raw / bytes_ if bytes_ else 0.0, 8 * bytes_ / samples if samples else 0.0
    items = sum(r["items"] or 1 for r in records)
    return (
        "total", f"{items} items", str(bytes_), str(raw), f"{ratio:.2f}", f"{bits:.3f}", *[""] * 4, f"{len(records)} files",
    )  # fmt: skip
