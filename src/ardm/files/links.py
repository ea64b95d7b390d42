"""Symbolic links of archives: find those that lead out of the folder, in a circle, or to renamed items.

This module works on texts only; it reads and writes no file.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from ardm.files.names import HERE, Naming, folded, safe_step
from ardm.files.paths import listed

FOLLOWED = 40
"""The most links in a chain, as on most systems."""
LONGEST_LINK = 4096
"""The most bytes in the target of a link, and the most steps on the way to it."""
OUT, ROUND, LONG = (
    "lead out of the archive",
    f"lead in a circle, or through more than {FOLLOWED} others",
    "are too long",
)


def leading_out(links: Mapping[str, str], here: Naming = HERE) -> list[str]:
    """The links that, followed through all others, lead out of the archive's folder, in a circle, or too far.

    links: path of each to its target.  here: naming of the file system.
    """
    return list(link_faults(links, here))


def link_faults(links: Mapping[str, str], here: Naming = HERE) -> dict[str, str]:
    """The links that `leading_out` returns, each with its fault: OUT, ROUND or LONG."""
    tree = _Tree(links, here)
    found = {name: tree.fault(name) for name in links}
    return {name: why for name, why in found.items() if why}


class _Tree:
    """The links of an archive as a tree of path components, which are followed one by one."""

    def __init__(self, links: Mapping[str, str], here: Naming) -> None:
        self._here = here
        self._steps = dict[
            str, tuple[str, bool]
        ]()  # step: its key on the file system, and whether that may be another's
        self._below = dict[tuple[int, str], int]()  # nodes on the way to links: the root is 0, all others are -1
        self._targets = dict[int, str]()
        for path, target in links.items():
            node = 0
            for step in path.split("/"):
                node = self._below.setdefault((node, self._step(step)[0]), len(self._below) + 1)
            self._targets[node] = target

    def _step(self, step: str) -> tuple[str, bool]:
        if step not in self._steps:
            other = self._here.strict and ("~" in step or safe_step(step, self._here, first=True) != step)
            self._steps[step] = folded(step, self._here), other
        return self._steps[step]

    def fault(self, name: str) -> str:
        """The fault of a link; "" if it has none."""
        *folders, last = name.split("/")
        inside = [0]
        for step in folders:
            inside.append(self._below[inside[-1], self._step(step)[0]])
        ahead, followed, steps = [last], 0, 0
        while ahead:
            step = ahead.pop()
            steps += 1
            if steps > LONGEST_LINK:
                return LONG
            if step in ("", "."):
                continue
            if step == "..":
                if len(inside) == 1:
                    return OUT
                inside.pop()
                continue
            key, other = self._step(step)
            if other:
                return OUT
            node = self._below.get((inside[-1], key), -1)
            target = self._targets.get(node)
            if target is None:
                inside.append(node)
                continue
            followed += 1
            if target.startswith("/"):
                return OUT
            if followed > FOLLOWED:
                return ROUND
            ahead += target.split("/")[::-1]
        return ""


def to_renamed(links: Mapping[str, str], before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The links whose targets (items or folders of items) were renamed: their texts still have the old name.

    links: path of each, before renaming, to its target.  before, after: names of all items.
    """
    changed = sorted((old, new) for old, new in zip(before, after, strict=True) if old != new)

    def moved(path: str) -> bool:
        for begins in (path, path + "/"):
            k = bisect_left(changed, (begins, ""))
            if k < len(changed) and changed[k][0].startswith(begins) and f"{changed[k][0]}/".startswith(path + "/"):
                return not f"{changed[k][1]}/".startswith(path + "/")
        return False

    return [
        name
        for name, target in links.items()
        if changed and moved(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)))
    ]


def note_renamed_targets(links: Sequence[str]) -> list[str]:
    """A note on links whose targets were renamed; nothing if there are none."""
    return [f"links to renamed items are broken ({len(links)}): {listed(links)}"] * bool(links)
