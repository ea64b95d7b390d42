"""Compiles the native kernels while the package is built; without a C compiler the package is built without them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

WHERE = Path("src", "ardm", "exact", "native")


class NativeHook(BuildHookInterface):
    """Puts the library into the wheel; an editable installation finds it beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library, and name the wheel after the machine that it is for."""
        spec = importlib.util.spec_from_file_location("compile", Path(self.root) / WHERE / "compile.py")
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        fault = made.compile_library()
        if fault:
            self.app.display_warning(f"ardm is built without its native kernels: {fault}")
            return
        build_data["artifacts"].append((WHERE / made.LIBRARY.name).as_posix())
        build_data["pure_python"] = False
        here = (tag.platform for tag in sys_tags())
        platform = next(name for name in here if "manylinux" not in name and "musllinux" not in name)
        build_data["tag"] = f"py3-none-{platform}"
