"""Options that several commands share, their completion in the shell, and how their values are checked."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ardm.atomic import reasons, refuse_target
from ardm.content import ORIGINS
from ardm.errors import ArdmError
from ardm.ranks import RANKS

if TYPE_CHECKING:
    import torch

    from ardm import Adaptive, EntropyBudget, FixedNumber, Threshold
    from ardm.bundle import Bundle


# --- completion in the shell: names without loading anything ----------------------------------------------------------


def _packaged(holds: str) -> list[str]:
    """Names of the folders in the package's assets that hold a file."""
    assets = resources.files("ardm") / "assets"
    return sorted(p.name for p in assets.iterdir() if p.is_dir() and (p / holds).is_file())


def _completed(names: list[str], incomplete: str) -> list[str]:
    """The names and the folders here that begin with the incomplete word."""
    above = Path(incomplete if incomplete.endswith("/") else incomplete.rpartition("/")[0] or ".")
    begun = incomplete.rpartition("/")[0] + "/" * ("/" in incomplete)
    folders: list[str] = []
    with suppress(OSError):  # a folder that is not there, or that may not be read
        folders = sorted(f"{begun}{p.name}/" for p in above.iterdir() if p.is_dir())
    hidden = incomplete.rpartition("/")[2].startswith(".")
    shown = [f for f in folders if hidden or not f[len(begun) :].startswith(".")]
    return [name for name in [*names, *shown] if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Models with float weights: bundled names and folders."""
    return _completed(_packaged("config.json"), incomplete)


def complete_codec(incomplete: str) -> list[str]:
    """Codec models: bundled names and folders."""
    return _completed(_packaged("codec.safetensors"), incomplete)


def complete_any(incomplete: str) -> list[str]:
    """Both kinds of models."""
    return sorted({*complete_model(incomplete), *complete_codec(incomplete)})


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes: bundled names and folders."""
    folders = [p for p in (resources.files("ardm") / "recipes").iterdir() if p.is_dir()]
    names = [f"{f.name}/{p.name[:-5]}" for f in folders for p in f.iterdir() if p.name.endswith(".yaml")]
    return _completed(sorted(names), incomplete)


# --- options of commands on files -------------------------------------------------------------------------------------


def _piped() -> list[str]:
    """Standard input where no file is named and something is piped in."""
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter("name a file, or pipe data into standard input", param_hint="FILE...")
    return ["-"]


# str, not Path: - is standard input, and ./- a file
_ARGUMENT: dict[str, Any] = {"default_factory": _piped, "show_default": False}
Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Files, or - for standard input.", **_ARGUMENT)]
Packed = Annotated[
    list[str], typer.Argument(metavar="FILE", help="Compressed files, or - for standard input.", **_ARGUMENT)
]
CodecModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Code with this model: a bundled name, a folder or a file (default: chosen by content).",
        autocompletion=complete_codec,
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--model", "-m", help="Folder of a model that is not bundled; may be given several times."),
]
Bare = Annotated[
    bool, typer.Option("--bare", help="The files are bare: made with compress --bare by the model that -m names.")
]
Output = Annotated[
    str | None, typer.Option("--out", "--output", "-o", help="Write to this file or folder; - is standard output.")
]
Stdout = Annotated[bool, typer.Option("--stdout", "-c", help="Write to standard output; keep the input.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Work on the files in folders.")]
Keep = Annotated[bool, typer.Option("--keep/--rm", "-k", help="Keep the input, or delete it once verified.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Read the result again and compare.")]
Backend = Annotated[
    str,
    typer.Option(help="Arithmetic: auto, native, int8, float32, float64, int64 or numpy; the results are the same."),
]
DataChanges = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings of the data, such as data.folder=~/data or data.set=adult."),
]
DataName = Annotated[str, typer.Option("--data", help="Data set (default: that of the model's recipe).")]
DataFolder = Annotated[Path | None, typer.Option("--folder", help="Folder of the data (default: that of the recipe).")]
Split = Annotated[str, typer.Option("--split", help="Split of the data.")]
Device = Annotated[
    str, typer.Option(help="Device to compute on: auto (CUDA if there is one, else the CPU), cpu, cuda, mps, ...")
]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision inside the network: float32, bf16, or auto (bf16 where its loss, measured by `ardm eval --record`, is "
        "small and the device is faster in it; else float32)."
    ),
]
Format = Annotated[str, typer.Option(help=f"Convert to another format: {', '.join(ORIGINS[1:])}.")]
Memory = Annotated[
    str,
    typer.Option("--memory", "-M", metavar="SIZE", help="Refuse files that need more memory, such as 512MiB or 4GiB."),
]
Pixels = Annotated[int, typer.Option("--max-pixels", help="Refuse images of more pixels.", min=1)]
MaxOutput = Annotated[
    str,
    typer.Option(
        "--max-output",
        metavar="SIZE",
        help="Refuse files that restore to more, such as 10GiB (default: half the memory, or 1040 times the file).",
        show_default=False,
    ),
]


MOST = 2**31 - 1
"""The largest number of items, sites or steps that an option takes: sizes computed from it fit 64 bits."""


def bytes_of(text: str, option: str = "-M") -> int:
    """Parse a number of bytes such as 512MiB."""
    found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)(i?)(B?)", text.strip(), re.IGNORECASE)
    if not found or not int(found[1]):
        raise typer.BadParameter(f"give a number of bytes such as 512MiB or 2GiB; got {text!r}", param_hint=option)
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


# --- options of commands on models ------------------------------------------------------------------------------------

Model = Annotated[
    str,
    typer.Argument(
        help="A bundled model, a folder, or owner/name on the Hugging Face hub.", autocompletion=complete_model
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.", min=0, max=2**63 - 1)]
Calls = Annotated[int | None, typer.Option("--calls", help="Network calls (default: the model's own, or 50).", min=1)]
Threads = Annotated[int, typer.Option("--threads", "-T", help="Processor threads; 0: one per core.", min=0, max=1024)]
Order = Annotated[
    str,
    typer.Option(
        help=f"Order of generation: random, rates, confident, own, {', '.join(RANKS)} (default: the model's own, or random).",
        show_default=False,
    ),
]
Score = Annotated[
    str,
    typer.Option(
        help="With --order confident: rank the sites by entropy (default), margin or probability.",
        show_default=False,
    ),
]
Select = Annotated[
    str,
    typer.Option(
        help="With --order confident: how many sites a step reveals: fixed=4, threshold=0.9 or entropy=0.1 (default: planned for --calls).",
        show_default=False,
    ),
]
BlockLength = Annotated[
    int | None,
    typer.Option(help="With --order confident: reveal blocks of this many sites from left to right.", min=1, max=MOST),
]
Temperature = Annotated[float, typer.Option(help="Below 1: safer and less varied; 0: always the most likely.", min=0.0)]
TopK = Annotated[
    int | None, typer.Option("--top-k", help="Draw each digit from the K most likely ones.", min=1, show_default=False)
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        help="Draw each digit from the fewest, most likely ones whose probabilities sum to X (nucleus).",
        min=0.0,
        max=1.0,
        show_default=False,
    ),
]
Label = Annotated[int | None, typer.Option(help="Class label, for a class-conditional model.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def use_threads(number: int) -> None:
    """Set the number of processor threads of this process; 0 leaves the default."""
    if number:
        import torch

        torch.set_num_threads(number)


def context_of(bundle: Bundle, label: int | None, items: int) -> torch.Tensor | None:
    """The label of `items` items as the context of a model; None without one.  Raises ArdmError for a wrong label."""
    if label is None:
        return None
    if not 0 <= label < bundle.config.labels:
        raise ArdmError(
            f"{bundle.name} takes labels 0..{bundle.config.labels - 1}; got {label}"
            if bundle.config.labels
            else f"{bundle.name} takes no label; leave --label out"
        )
    import torch

    from ardm import inputs

    return torch.full((items,), label, device=inputs.device_of(bundle.model))


def ordering(order: str, score: str, select: str, block_length: int | None) -> str | Adaptive | None:
    """The order that options name; None where they name none."""
    if not (score or select or block_length):
        return order or None
    if order not in ("", "confident"):
        raise ArdmError(f"--score, --select and --block-length belong to --order confident; got --order {order}")
    import ardm

    return ardm.Adaptive(score or "entropy", _selection(select) if select else None, block_length)


def _selection(text: str) -> FixedNumber | Threshold | EntropyBudget:
    """Parse a selection such as threshold=0.9."""
    import ardm

    kinds = {"fixed": ardm.FixedNumber, "threshold": ardm.Threshold, "entropy": ardm.EntropyBudget}
    kind, _, value = text.partition("=")
    try:
        found = int(value) if kind == "fixed" else float(value)
        make = kinds[kind]
    except (KeyError, ValueError):
        raise ArdmError(f"--select takes fixed=4, threshold=0.9 or entropy=0.1, for example; got {text!r}") from None
    return make(found)


def numbers(text: str) -> list[int]:
    """Parse whole numbers separated by commas."""
    try:
        return [int(t) for t in text.split(",")]
    except ValueError:
        raise ArdmError(f"give whole numbers separated by commas, such as 10,20,50; got {text!r}") from None


def refuse_early(force: bool, *paths: Path | None, endings: tuple[str, ...] = (".png",)) -> None:
    """Refuse, before any work, a file that could not be written afterwards: a wrong ending, or an existing target."""
    for path in paths:
        if path and path.suffix.lower() not in endings:
            raise ArdmError(f"{path}: give a name that ends in {' or '.join(endings)}")
        if path:
            with reasons(f"cannot write {path}"):
                refuse_target(path, force)
