"""The operations of a program, by name, in PyTorch: the same integers as `operations`, fast."""

from ardm.exact.kernels.attention import ATTENTION
from ardm.exact.kernels.causal import CAUSAL
from ardm.exact.kernels.elementwise import ELEMENTWISE
from ardm.exact.kernels.embeddings import EMBEDDINGS
from ardm.exact.kernels.kernel import Kernel
from ardm.exact.kernels.linear import LINEAR
from ardm.exact.kernels.neighbours import NEIGHBOURS
from ardm.exact.kernels.norm import NORM
from ardm.exact.kernels.sequences import SEQUENCES
from ardm.exact.kernels.spatial import SPATIAL

KERNELS: dict[str, Kernel] = {
    **ELEMENTWISE,
    **SPATIAL,
    **NEIGHBOURS,
    **LINEAR,
    **NORM,
    **ATTENTION,
    **EMBEDDINGS,
    **SEQUENCES,
    **CAUSAL,
}
"""By name; heads have none, see `operations.heads.frequencies`, and what reads places has none, see `causal`."""
