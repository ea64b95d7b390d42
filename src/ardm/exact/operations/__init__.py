"""The operations of a program, by name: what each computes, in NumPy's int64, and the bounds of its result.

⌊·⌋ is the floor, also of negative numbers; `clamp` keeps a number within lo..hi, where the operation has them.  Each file
begins with the formulas of its operations.  `kernels` runs the same operations in PyTorch.
"""

from ardm.exact.operations.attention import ATTENTION
from ardm.exact.operations.causal import CAUSAL
from ardm.exact.operations.elementwise import ELEMENTWISE
from ardm.exact.operations.embeddings import EMBEDDINGS
from ardm.exact.operations.heads import HEADS
from ardm.exact.operations.linear import LINEAR
from ardm.exact.operations.neighbours import NEIGHBOURS
from ardm.exact.operations.norm import NORM
from ardm.exact.operations.operation import Operation
from ardm.exact.operations.sequences import SEQUENCES
from ardm.exact.operations.spatial import SPATIAL

OPERATIONS: dict[str, Operation] = {
    **ELEMENTWISE,
    **SPATIAL,
    **NEIGHBOURS,
    **LINEAR,
    **NORM,
    **ATTENTION,
    **EMBEDDINGS,
    **SEQUENCES,
    **CAUSAL,
    **HEADS,
}
"""By name."""
