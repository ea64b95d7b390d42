"""Models along wavefronts that someone has tampered with: refused, or the same integers from the kernels and by definition."""

import copy
from pathlib import Path

import numpy as np
import pytest

from ardm.errors import ArdmError
from ardm.exact.model import NAME, CodecModel, fingerprint, load, refuse_room
from ardm.exact.native.runner import NativeRunner
from ardm.exact.program import Program
from ardm.exact.reference import Reference
from test_native import compiled, odd_program  # noqa: F401
from waves import wave_model, wave_program

MARKS = (-1, 0, 1, 2, 3, 8, 15, 16, 17, 31, 32, 40, 41, 48, 63, 64, 1 << 14, 1 << 16, 1 << 30, 1 << 31, (1 << 53) - 1)
SHAPES = (
    lambda t: t[None], lambda t: t[:0], lambda t: t.reshape(-1), lambda t: t[..., :-1], lambda t: t[:-1], lambda t: t.T,
    lambda t: t[..., None], lambda t: np.repeat(t, 2, axis=0), lambda t: t.astype(np.uint64), lambda t: t.astype(np.uint8),
)  # fmt: skip
SIZES = {"channels": (0, 1, 2, 64), "classes": (1, 2, 255, 257, 65536), "base": (2, 16, 255), "wave": (0, 1, 16, 17)}


def tampered(rng, program):
    """A program with one to three faults: (its JSON values, its tensors)."""
    values, tensors = copy.deepcopy(program.plain()), dict(program.tensors)

    def one(of):
        return of[int(rng.integers(len(of)))]

    for _ in range(int(rng.integers(1, 4))):
        op, name = one(values["ops"]), one(sorted(tensors))
        names = ["value", "depth", "nothing", *(other["out"] for other in values["ops"])]
        what = int(rng.integers(8))
        if what == 0 and op["integers"]:
            op["integers"][one(sorted(op["integers"]))] = one(MARKS)
        elif what == 1:
            tensors[name] = np.ascontiguousarray(one(SHAPES)(tensors[name]))
        elif what == 2 and tensors[name].size:
            tensors[name] = tensors[name].astype(np.int64)
            tensors[name].reshape(-1)[int(rng.integers(tensors[name].size))] = one(MARKS)
        elif what == 3 and op["in"]:
            op["in"][int(rng.integers(len(op["in"])))] = one(names)
        elif what == 4:
            op["in"] = [*op["in"], one(names)] if rng.random() < 0.5 else op["in"][:-1]
        elif what == 5:
            values["ops"].insert(int(rng.integers(len(values["ops"]))), values["ops"].pop())
        elif what == 6:
            key = one(sorted(SIZES))
            values[key] = one(SIZES[key])
        elif what == 7:
            del values["ops"][int(rng.integers(len(values["ops"])))]
            values["ops"] = values["ops"] or [op]
    return values, tensors


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10))])
def test_kernels_run_what_is_certified_and_nothing_else(seed, tmp_path):
    """Loaded from a file, as anyone may write one; only ArdmError may be raised."""
    rng, same = np.random.default_rng(seed), 0
    for number in range(40):
        values, tensors = tampered(rng, (wave_program(width=5, inner=3, blocks=1, hidden=4), odd_program())[number % 2])
        try:
            program = Program.parse(values, tensors)
            CodecModel(program, {}, 0).save(tmp_path / NAME)
            model = load(tmp_path)
            reference = Reference(model.program)
            refuse_room(model, reference.bounds)
            expected = fingerprint(model, reference)
            native = NativeRunner(model.program, plain=bool(number % 4 < 2))
        except ArdmError:
            continue
        assert fingerprint(model, native) == expected, (values, number)
        items = rng.integers(0, program.classes, (2, program.channels, 4, 5))
        for start, width in native.encode(items):
            assert (width > 0).all(), number
            assert ((start >= 0) & (start + width <= 1 << 24)).all(), number
        same += 1
    assert same


def test_damaged_files_of_models_are_refused(tmp_path):
    """Bytes changed, or cut off anywhere: refused, or a model with another identity, or one whose card differs."""
    path = Path(tmp_path / NAME)
    model = wave_model(wave_program(width=3, inner=2, blocks=1, hidden=2))
    model.save(path)
    data, rng = path.read_bytes(), np.random.default_rng(4)
    for number in range(150):
        at = int(rng.integers(len(data)))
        changed = bytearray(data[:at] if number % 3 == 0 else data)
        if number % 3:
            changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(changed))
        try:
            found = load(path)
        except ArdmError:
            continue
        assert found.identity != model.identity or (found.golden, dict(found.card)) != (model.golden, dict(model.card))
