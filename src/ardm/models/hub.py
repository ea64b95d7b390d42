"""Folders of models on the Hugging Face hub: download, upload, and the page that presents one (README.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ardm.errors import ArdmError

FILES = ["*.json", "*.safetensors", "*.md"]
"""What a model folder holds; nothing else is ever downloaded or uploaded."""
SETS = {
    "cifar10": "uoft-cs/cifar10",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "sc09": "google/speech_commands",
}
"""Data sets by our name and by that of the hub."""
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "gpl-3.0", "bsd-3-clause")
"""Licences that the hub knows by these names; any other is "other"."""
TASKS = {"image": "unconditional-image-generation"}
"""The task of the hub for a kind of items."""


def download(name: str, revision: str | None = None) -> Path:
    """Download the model "owner/name" (or take it from the cache); returns its folder.

    revision: a branch, tag or commit; None: the main branch.
    Raises ArdmError where the hub does not have it or cannot be reached, or huggingface_hub is not installed.
    """
    with _hub(f"there is no folder {name!r}; to download it from the hub"):
        from huggingface_hub import snapshot_download
    with _failing(f"there is no folder {name!r}, and the hub does not have it or cannot be reached"):
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))


def upload(
    folder: Path,
    name: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str = "",
) -> str:
    """Upload a model folder as "owner/name", which is created if it does not exist; returns the address of the commit.

    private: of a new repository; None: the default of the owner.  token: None: the one of `hf auth login`.
    Raises ArdmError where the hub refuses or cannot be reached, or huggingface_hub is not installed.
    """
    if not isinstance(name, str) or name.count("/") != 1 or not all(name.split("/")):
        raise ArdmError(f"a model on the hub is named 'owner/name'; got {name!r}")
    with _hub("to upload a model"):
        from huggingface_hub import HfApi
    with _failing(f"{name} cannot be uploaded"):
        api = HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=str(folder),
            revision=revision,
            commit_message=message or "A model of ardm",
            allow_patterns=FILES,
        )
    return str(getattr(done, "commit_url", done))


@contextmanager
def _hub(wanted: str) -> Iterator[None]:
    """Turn a missing huggingface_hub into an ArdmError."""
    try:
        yield
    except ImportError:
        raise ArdmError(f"{wanted}, install huggingface_hub") from None


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn every refusal of the hub, and of the network, into an ArdmError with its first line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        why = (str(error).splitlines() or ["no reason given"])[0]
        raise ArdmError(f"{what}: {why}") from None


# --- the page of a model --------------------------------------------------------------------------------------------------


def page(card: Mapping[str, Any], content: str, name: str, about: Mapping[str, Any], codec: bool = False) -> str:
    """README.md of a model: metadata in YAML, what the card says, its figures, and how to use it.

    content: the kind of items.  name: "owner/name".  about: further rows of the table, such as the number of parameters.
    codec: whether a codec model comes with it.
    """
    title = card.get("name") or "unnamed"
    rows = {**about, **{key: card[key] for key in ("data", "licence", "command", "steps") if key in card}}
    parts = [
        f"---\n{yaml.safe_dump(metadata(card, content), sort_keys=False)}---",
        f"# {title}",
        str(card.get("summary", f"A model of discrete data ({content}) made with `ardm`.")),
        table(("", ""), [(key, str(value)) for key, value in rows.items()]),
        *_figures(card),
        "## Use",
        f"```python\n{_use(name, codec)}```",
    ]
    return "\n\n".join(parts) + "\n"


def metadata(card: Mapping[str, Any], content: str) -> dict[str, Any]:
    """The metadata by which the hub finds a model; only what the card says."""
    licence = str(card.get("licence", "")).lower()
    known = {"license": licence if licence in LICENCES else "other"} if licence else {}
    own = {"license_name": str(card["licence"])} if known.get("license") == "other" else {}
    recipe = card.get("recipe")
    source = recipe.get("data", {}).get("name") if isinstance(recipe, Mapping) else None
    sets = card.get("datasets") or ([SETS[source]] if source in SETS else [])
    found: dict[str, Any] = {"library_name": "ardm", **known, **own}
    if content in TASKS:
        found["pipeline_tag"] = TASKS[content]
    found["tags"] = ["ardm", "any-order", "discrete-diffusion", "likelihood", content]
    return {**found, "datasets": list(sets)} if sets else found


def _figures(card: Mapping[str, Any]) -> list[str]:
    """The figures of a card as a table: a number, or (number, standard error, items)."""
    figures = dict(card.get("figures") or {})
    if "valid" in card:
        figures.setdefault("validation, bits/dim", card["valid"])
    if not figures:
        return []
    rows = []
    for name, value in figures.items():
        parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        shown = [f"{part:.4f}" if isinstance(part, float) else str(part) for part in parts]
        rows.append((str(name), *shown, *("",) * (3 - len(shown))))
    return ["## Figures", table(("", "value", "standard error", "items"), rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; bars and line ends inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _use(name: str, codec: bool) -> str:
    lines = [
        "import ardm",
        "",
        f'model = ardm.load("{name}")',
        "x = ardm.sample(model, items=4)",
        "print(ardm.score(model, x))  # bits per dimension, with its standard error",
    ]
    if codec:
        lines[:1] = ["import ardm", "from huggingface_hub import snapshot_download"]
        lines += [
            f'codec = snapshot_download("{name}")  # the folder that holds codec.safetensors',
            "data = ardm.compress(x[0], model=codec)  # without loss; ardm.decompress(data, model=codec)",
        ]
    return "\n".join(lines) + "\n"
