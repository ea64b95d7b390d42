"""The certificate of a program: the bound of every value, derived from the weights, for every possible input.

Up to a peak of 2^24 an operation may be computed in float32, up to 2^53 in float64, and the result is the same integer.
"""

from __future__ import annotations

from collections.abc import Mapping

from ardm.errors import ArdmError
from ardm.exact.bounds import LIMIT, Bound, expect
from ardm.exact.operations import OPERATIONS
from ardm.exact.operations.causal import CAUSAL, POINTWISE
from ardm.exact.operations.heads import HEADS
from ardm.exact.program import Op, Program

MAX_ALL = 1 << 20
"""The most planes of all values of a program."""
MAX_CHANNELS = 256
"""The most channels of a program along wavefronts, which takes a step for each channel of each wavefront."""


def certify(program: Program) -> dict[str, Bound]:
    """The bound of every value of a program, by name.

    Raises ArdmError where an operation is unknown, does not fit its inputs, or can leave ±2^53.
    """
    if [i for i, op in enumerate(program.ops) if op.name in HEADS] != [len(program.ops) - 1]:
        raise ArdmError("a codec model holds a program without a head at its end, or with one before it")
    for name, tensor in program.tensors.items():
        if tensor.size and not -LIMIT < int(tensor.min()) <= int(tensor.max()) < LIMIT:
            raise ArdmError(f"the tensor {name} of a codec model leaves the exact range of every container")
    if program.wave and (program.digits != 1 or max(program.size)):
        raise ArdmError("a codec model along wavefronts has one digit and items of any size")
    if program.wave and program.channels > MAX_CHANNELS:
        raise ArdmError(f"a codec model along wavefronts has at most {MAX_CHANNELS} channels; got {program.channels}")
    bounds, planes = input_bounds(program), 0
    for op in program.ops:
        bounds[op.out] = operation_bound(program, op, bounds)
        planes += bounds[op.out].planes
        if program.wave:
            _refuse_later(op, bounds)
        if planes > MAX_ALL:
            raise ArdmError(f"the operations of a codec model make more than {MAX_ALL} planes in all")
    return bounds


def _refuse_later(op: Op, bounds: Mapping[str, Bound]) -> None:
    """Raise ArdmError for an operation that a program along wavefronts may not have: one that reads what comes later."""
    kind = bounds[op.out].kind
    if kind == "map":
        expect(op, op.name in POINTWISE, "reads places that are not known in time")
    elif op.name not in CAUSAL:
        expect(op, all(bounds[name].kind == kind for name in op.inputs), "reads places that are not known in time")


def input_bounds(program: Program) -> dict[str, Bound]:
    """The bounds of the two maps that a program begins with."""
    K, C = program.classes, program.channels
    return {"value": Bound.of([1 - K] * C, [K - 1] * C, "map"), "depth": Bound.of([0] * C, [program.digits] * C, "map")}


def operation_bound(program: Program, op: Op, bounds: Mapping[str, Bound]) -> Bound:
    """The bound of an operation's result, given those of the values before it.  Raises ArdmError as certify does."""
    if op.name not in OPERATIONS:
        raise ArdmError(f"this codec model needs the operation {op.name!r}, which this version of ardm lacks")
    expect(op, op.out not in bounds and all(name in bounds for name in op.inputs), "reads a value that does not exist")
    try:
        return OPERATIONS[op.name].bound(program, op, [bounds[name] for name in op.inputs])
    except ArdmError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model is malformed: {error}") from None
