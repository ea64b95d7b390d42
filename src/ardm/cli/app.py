"""The program `ardm`: commands from the modules beside this one, assembled here.

Commands import what they need when they run, so that commands on files start without PyTorch.
"""

from __future__ import annotations

import inspect
from typing import Annotated

import typer
from typer.core import TyperCommand

import ardm
from ardm.cli import (
    audit,
    bench,
    compress,
    decompress,
    demo,
    evaluate,
    export,
    fill,
    fit,
    generate,
    listing,
    models,
    plan,
    train,
)
from ardm.cli.arguments import Aliases, Command
from ardm.cli.console import say

ABOUT = "Sample, fill, score and losslessly compress discrete data with any-order generative models."

app = typer.Typer(
    cls=Aliases,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes leave less than half of 80 columns to the text
    help=ABOUT,
)
for command in (
    compress,
    decompress,
    listing,
    fit,
    train,
    evaluate,
    audit,
    generate,
    fill,
    plan,
    export,
    bench,
    models,
    demo,
):
    command.register(app)
for info in app.registered_commands:
    info.cls = info.cls if issubclass(info.cls or TyperCommand, Command) else Command
    # paragraphs, however the source breaks their lines
    info.help = "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(info.callback) or "").split("\n\n"))


def _version(value: bool) -> None:
    if value:
        say(f"ardm {ardm.__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
