"""The same bytes whatever the number of threads, batch, instruction set, library switch or container.

Every row of the table encodes, and decodes what *another* row has written.  Rows that follow one another and differ in what
a process can change while it runs share a process.  The float network, put through the same table, fails it: the table has teeth.
"""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ardm.codec import registry
from ardm.errors import ArdmError
from ardm.exact.model import NAME, fingerprint
from ardm.exact.native import library as native
from ardm.exact.native.compile import compile_library, compiler
from ardm.exact.reference import Reference
from bundles import exact
from linemodels import SIZES, codec, read_by
from portable import bundled
from waves import wave_model, wave_program

LINES = ("text", "sound", "table")
"""Models of other things, which every row runs, too."""
pytestmark = pytest.mark.slow
TABLE = {
    "float32, 2 threads, batches of 64": {"threads": 2},
    "1 thread": {},
    "batches of 1": {"batch": 1},
    "batches of 7": {"batch": 7},
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default", "threads": 2},
    "oneDNN with SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "without oneDNN": {"ARDM_NO_ONEDNN": "1"},
    "MKL with SSE4.2, compatible": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"},
    "NumPy without AVX": {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3", "OMP_NUM_THREADS": "1"},
    "float64": {"backend": "float64"},
    "int64": {"backend": "int64"},
    "NumPy": {"backend": "numpy"},
    "native": {"backend": "native", "threads": 2},
    "native, batches of 3": {"backend": "native", "batch": 3},
    "native plain": {"backend": "native plain"},
}


def rows():
    """The rows that can run here: all, but without a C compiler not the native ones."""
    try:
        native.library(native._path())
    except ArdmError:
        if compiler() is None:
            return [row for row in TABLE if not row.startswith("native")]
        assert compile_library() is None
        native.library.cache_clear()
    return list(TABLE)


def settings(row):
    """Environment variables, and backend, threads and batch of a row."""
    switches = {key: value for key, value in TABLE[row].items() if key.isupper()}
    chosen = {"backend": "float32", "threads": 1, "batch": 64} | {k: v for k, v in TABLE[row].items() if k.islower()}
    return switches, (chosen["backend"], chosen["threads"], chosen["batch"])


def kin(row):
    """What rows of one process have in common: environment variables, and whether PyTorch is there."""
    switches, (backend, *_) = settings(row)
    return switches, backend == "numpy", backend.startswith("native")


def run(model, *jobs):
    """One process, which does its jobs (row, what, folder) in their turn; what: encode, decode or float."""
    arguments = [word for row, what, folder in jobs for word in (*settings(row)[1], what, folder)]
    script = Path(__file__).with_name("portable.py")
    done = subprocess.run(
        [sys.executable, script, *map(str, [model, *arguments])],
        env={**os.environ, **settings(jobs[0][0])[0]},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{jobs}: {done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    exact(width=64, blocks=2, scale=2.0).save(folder / NAME)
    (folder / "wave").mkdir()
    steep = wave_model(wave_program(seed=3, width=37, inner=21, hidden=18, components=5, slope=3))
    replace(steep, golden=fingerprint(steep, Reference(steep.program))).save(folder / "wave" / NAME)
    for name in LINES:
        (folder / name).mkdir()
        codec(name, **read_by(SIZES[name]["trunk"], width=32, hidden=32)).save(folder / name / NAME)
    return folder


def test_every_row_writes_the_same_bytes_and_reads_what_another_wrote(model, tmp_path):
    folders = {row: tmp_path / str(k) for k, row in enumerate(rows())}
    before = {row: other for other, row in itertools.pairwise(folders)}
    first, *_, last = folders
    for _, alike in itertools.groupby(folders, kin):
        jobs = []
        for row in alike:
            folders[row].mkdir()
            jobs.append((row, "encode", folders[row]))
            jobs += [(row, "decode", folders[before[row]])] if row in before else []
        run(model, *jobs)
    run(model, (first, "decode", folders[last]))
    names = sorted(p.name for p in folders[first].iterdir())
    assert len(names) == 2 * 8 + 3 * len(LINES) + 3 * len(bundled())
    assert set(bundled()) == set(registry.bundled())
    for row, folder in folders.items():
        assert sorted(p.name for p in folder.iterdir()) == names, row
        for name in names:
            assert (folder / name).read_bytes() == (folders[first] / name).read_bytes(), f"{row}: {name}"


def test_floats_fail_the_same_table(tmp_path):
    """The negative control: frequencies by float32 differ between rows, so a stream would not survive."""
    rows = ["float32, 2 threads, batches of 64", "MKL with SSE4.2, compatible", "without oneDNN", "oneDNN with SSE4.1"]
    rows += ["ATen without vectors", "batches of 1", "batches of 7"]
    found = []
    for row in rows:
        run("none", (row, "float", tmp_path))
        found.append(np.load(tmp_path / "frequencies.npy"))
        if not np.array_equal(found[0], found[-1]):
            return
    pytest.fail("every row has the same frequencies")
