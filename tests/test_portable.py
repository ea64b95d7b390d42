"""A file is a promise: whatever the threads, batch, instruction set, library switch or container, the same bytes.

Every row of the table is a process of its own, which encodes, and decodes what *another* row has written.  The float
network, put through the same table, fails it: the table has teeth.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ardm.codec import registry
from ardm.exact.model import NAME
from bundles import exact
from linemodels import codec
from portable import bundled

LINES = ("text", "sound", "table")
"""Models of other things, which every row runs, too."""
TABLE = {
    "float32, 2 threads, batches of 64": {},
    "1 thread": {"threads": 1},
    "batches of 1": {"batch": 1},
    "batches of 7": {"batch": 7, "threads": 1},
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "oneDNN with SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "without oneDNN": {"ARDM_NO_ONEDNN": "1"},
    "MKL with SSE4.2, compatible": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"},
    "NumPy without AVX": {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3", "OMP_NUM_THREADS": "1"},
    "float64": {"backend": "float64"},
    "int64": {"backend": "int64", "threads": 1},
    "NumPy": {"backend": "numpy"},
}


def run(model, folder, what, row, *control):
    """One process under the settings of a row."""
    folder.mkdir(exist_ok=True)
    switches = {key: value for key, value in TABLE[row].items() if key.isupper()}
    chosen = {"backend": "float32", "threads": 2, "batch": 64} | {k: v for k, v in TABLE[row].items() if k.islower()}
    arguments = [model, folder, what, chosen["backend"], chosen["threads"], chosen["batch"], *control]
    script = Path(__file__).with_name("portable.py")
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={**os.environ, **switches},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{row}: {done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    exact(width=64, blocks=2, scale=2.0).save(folder / NAME)
    for name in LINES:
        (folder / name).mkdir()
        codec(name, width=32, hidden=32).save(folder / name / NAME)
    return folder


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """What every row has encoded."""
    root = tmp_path_factory.mktemp("streams")
    folders = {row: root / str(k) for k, row in enumerate(TABLE)}
    for row, folder in folders.items():
        run(model, folder, "encode", row)
    return folders


@pytest.mark.parametrize("row", TABLE)
def test_the_same_bytes(row, written):
    first = next(iter(written.values()))
    names = sorted(p.name for p in first.iterdir())
    assert len(names) == 8 + 3 * len(LINES) + 3 * len(bundled())
    assert set(bundled()) == set(registry.bundled())
    assert sorted(p.name for p in written[row].iterdir()) == names
    for name in names:
        assert (written[row] / name).read_bytes() == (first / name).read_bytes(), f"{row}: {name}"


@pytest.mark.parametrize(("reader", "writer"), list(itertools.pairwise([*TABLE, next(iter(TABLE))])))
def test_decoded_under_other_settings(reader, writer, model, written):
    run(model, written[writer], "decode", reader)


def test_floats_fail_the_same_table(tmp_path):
    """The negative control: frequencies by float32 differ between rows, so a stream would not survive."""
    rows = ["float32, 2 threads, batches of 64", "batches of 1", "batches of 7", "ATen without vectors"]
    rows += ["oneDNN with SSE4.1", "without oneDNN", "MKL with SSE4.2, compatible"]
    found = []
    for k, row in enumerate(rows):
        run(tmp_path, tmp_path / str(k), "encode", row, "float")
        found.append(np.load(tmp_path / str(k) / "frequencies.npy"))
    assert any(not np.array_equal(found[0], other) for other in found[1:])
