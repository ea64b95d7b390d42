"""Arguments in the style of zstd and gzip: -1 ... -9 for levels; -z, -d, -t and -l instead of a command."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ardm.cli.console import plainly, streams

_LEVEL = re.compile(r"-([kfcrvq]*)([0-9]+)([kfcrvq]*)")
_COMMANDS = {"z": "compress", "d": "decompress", "t": "test", "l": "list"}


class Command(TyperCommand):
    """A command whose help reads the same with every version of typer: FILE... and N, not {FILE}... and <int range>."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the name of the command in its usage."""
        return [self.options_metavar or "", *(_in_usage(p) for p in self.params if p.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, and the options with their defaults and limits."""
        records = [(p, p.get_help_record(ctx)) for p in self.get_params(ctx)]
        arguments = [(_name(p), _bounded(r[1])) for p, r in records if r and p.param_type_name == "argument"]
        options = [(with_value(r[0]), _bounded(r[1])) for p, r in records if r and p.param_type_name == "option"]
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


_TYPES = re.compile(r"(?:<(?:list\[)?(\w+)[^<>]*>|\b(INTEGER|FLOAT|TEXT|PATH)(?: RANGE)?)$")
_VALUES = {"int": "N", "integer": "N", "float": "X", "path": "PATH"}


def with_value(names: str) -> str:
    """The names of an option, and one word for its value, which versions of typer write as <int range> or INTEGER RANGE."""
    return _TYPES.sub(lambda found: _VALUES.get((found[1] or found[2]).lower(), "TEXT"), names)


def _name(argument: Any) -> str:
    """The name of an argument, such as FILE."""
    return str(argument.metavar or argument.name.upper()).rstrip(".")


def _in_usage(argument: Any) -> str:
    """An argument in a usage: FILE, FILE..., [FILE] or [FILE...]."""
    name = _name(argument) + "..." * (argument.nargs != 1)
    return name if argument.required else f"[{name}]"


def _bounded(text: str) -> str:
    """The help of an option without the largest number of 32 or 64 bits."""
    return re.sub(rf"\b(\d+)<=x<=(?:{2**31 - 1}|{2**63 - 1})\b", r"x>=\1", text)


class Levels(Command):
    """A command with levels -1 ... -9."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Expand -9 to --level=9.  Raises BadParameter for a number that is not a level."""
        valued = {name for p in self.params if not getattr(p, "is_flag", True) for name in p.opts}
        return super().parse_args(ctx, list(args) if ctx.resilient_parsing else list(_expanded(args, valued)))


def _expanded(args: Sequence[str], valued: Collection[str]) -> Iterator[str]:
    """Arguments with expanded levels; valued: options whose value is not a level."""
    for k, arg in enumerate(args):
        if arg == "--":
            yield from args[k:]
            return
        found = _LEVEL.fullmatch(arg)
        if found is None or (k and re.sub("^-[kfcrvq]+(?=[a-zA-Z]$)", "-", args[k - 1]) in valued):
            yield arg
            continue
        if found[2] not in "123456789":
            raise typer.BadParameter(f"levels are -1 to -9; got -{found[2]} (put -- before a file of this name)")
        yield f"--level={found[2]}"
        if found[1] or found[3]:
            yield f"-{found[1]}{found[3]}"


class Aliases(TyperGroup):
    """A program whose commands may also be given as flags: -z, -d, -t, -l, with other flags before or after."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace the flag by the command."""
        return super().parse_args(ctx, aliased(args))

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run with standard streams that are never missing, and never written in part."""
        with streams():
            return super().main(*args, **settings)

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Parse the arguments in front of the command."""
        with plainly():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command, and run it."""
        with plainly():
            return super().invoke(ctx)


def aliased(args: Sequence[str]) -> list[str]:
    """Arguments with the command first: -dc FILE becomes decompress -c FILE, and -9 FILE compress -9 FILE."""
    flags = args if args and args[0].startswith("-") else []
    flags = flags[: flags.index("--")] if "--" in flags else flags
    for k, arg in enumerate(flags):
        found = re.fullmatch(r"-([a-zA-Z]*)", arg)
        letters = found[1] if found else ""
        for letter, command in _COMMANDS.items():
            if letter in letters or arg == f"--{command}":
                rest = letters.replace(letter, "", 1)
                return [command, *args[:k], *([f"-{rest}"] if rest else []), *args[k + 1 :]]
    return ["compress", *args] if any(map(_LEVEL.fullmatch, flags)) else list(args)
