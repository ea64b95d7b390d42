"""Sites without a distribution: counted where the model runs, reported with their step.

A model gives no distribution where its logits are NaN or +inf, or −inf for every value.  A CPU raises at once.  Looking
at a number on a GPU means waiting for the GPU, so there the check comes every `PATIENCE` steps, and at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.heads import inverse_cdf
from ardm.model import PredictionLike, Wrapped, has_quantile, probabilities

PATIENCE = 64
"""The number of steps between two checks for faults of a walk on a GPU."""


def undefined(logits: Tensor) -> Tensor:
    """(N,) bool: the rows of logits (N, b) that are no distribution."""
    return ~logits.amax(-1).isfinite()


def readable(x: Tensor) -> bool:
    """Whether the values of a tensor can be read without waiting for a GPU."""
    return x.device.type == "cpu"


def no_distribution(sites: int, asked: int, where: str = "") -> ArdmError:
    """The error for `sites` of `asked` sites without a distribution."""
    return ArdmError(
        f"the model gives no distribution at {sites} of {asked} sites{where}: its logits are NaN or +inf, or −inf for "
        "every value; check weights and inputs, and whether half precision overflows"
    )


def refuse(bad: Tensor) -> None:
    """Raise ArdmError if any of bad (N,) bool is true.  Does nothing on a GPU."""
    if readable(bad) and bad.any():
        raise no_distribution(int(bad.sum()), len(bad))


class Faults:
    """Counts of sites without a distribution, kept on the device until `refuse` reads them."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor | int, Tensor | int, Tensor | None]] = []

    def see(self, sites: Tensor, asked: Tensor | int, step: Tensor | int, item: Tensor | None = None) -> None:
        """Record that `sites` of the `asked` sites have no distribution, and in which step (−1: no step); (R,) or ().

        item: (R,), the item of each row, where `refuse` may excuse some items.
        """
        self._seen.append((sites, asked, step, item))

    def refuse(self, excused: Tensor | None = None) -> None:
        """Raise ArdmError for the first step with faults in items that are not excused (B,) bool, and forget all counts.

        Waits for the device once.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return
        counts = [
            sites if excused is None or item is None else torch.where(excused.to(item.device)[item], 0, sites)
            for sites, _, _, item in seen
        ]
        bad = torch.cat([c.reshape(-1) for c in counts]).cpu()
        if not bad.any():
            return
        asked, step = (
            torch.cat([torch.as_tensor(row[k], device="cpu").reshape(-1).expand(row[0].numel()) for row in seen])
            for k in (1, 2)
        )
        first = int(step[bad > 0].min())
        here = step == first
        raise no_distribution(int(bad[here].sum()), int(asked[here].sum()), f" in step {first}" if first >= 0 else "")


class Watch:
    """The faults of one walk of `batch` items.

    An item that holds an impossible digit costs +∞.  Later digits of it may follow values that cannot occur, and need no
    distribution.
    """

    def __init__(self, batch: int, device: torch.device | str | None) -> None:
        self._faults = Faults()
        self._impossible = torch.zeros(batch, dtype=torch.bool, device=device)

    def over(self, prediction: PredictionLike, step: int, state: Partial) -> Watched:
        """The prediction of a step for a state, watched."""
        return Watched(prediction, self, step, state)

    def see(self, bad: Tensor, step: int) -> None:
        """Record the asked sites without a distribution, bad (N,) bool; raise ArdmError if it is time to look."""
        self._faults.see(bad.sum(), len(bad), step)
        if readable(bad) or step % PATIENCE == PATIENCE - 1:
            self.refuse()

    def excused(self, batch_index: Tensor) -> Tensor:
        """(N,) bool: sites of items that already cost +∞."""
        return self._impossible[batch_index]

    def excuse(self, batch_index: Tensor, impossible: Tensor) -> None:
        """Excuse the items of the sites where impossible (N,) is true from now on."""
        count = torch.zeros_like(self._impossible, dtype=torch.long).index_add(0, batch_index, impossible.long())
        self._impossible = self._impossible | (count > 0)

    def refuse(self) -> None:
        """Raise ArdmError if a site without a distribution was seen, with its step."""
        self._faults.refuse()


class Watched(Wrapped):
    """A prediction that records the sites where it gives no distribution.

    Where the error comes later, such sites get digit 0, which always exists, until then.
    """

    def __init__(self, prediction: PredictionLike, watch: Watch, step: int, state: Partial) -> None:
        super().__init__(prediction, state)
        self._watch, self._step = watch, step

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b): logits of the next digits."""
        logits = self._prediction[sites]
        bad = undefined(logits)
        self._watch.see(bad, self._step)
        if readable(bad):
            return logits
        first = torch.arange(logits.shape[-1], device=logits.device) == 0
        return torch.where(bad[:, None], torch.where(first, 0.0, -torch.inf).to(logits.dtype), logits)

    def probabilities(self, sites: Sites) -> Tensor:
        """(N, b): probabilities of the next digits."""
        p = probabilities(self._prediction, sites)
        bad = p.amax(-1).isnan()
        self._watch.see(bad, self._step)
        if readable(bad):
            return p
        first = torch.arange(p.shape[-1], device=p.device) == 0
        return torch.where(bad[:, None], first.to(p.dtype), p)

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probabilities in nats of the next digits; 0 where there is no distribution."""
        logp, item = self._prediction.log_prob(sites, digit), sites.batch_index
        none = logp.isnan()
        self._watch.see(none & ~self._watch.excused(item), self._step)
        self._watch.excuse(item, logp == -torch.inf)
        return logp.masked_fill(none, 0.0)

    def quantile(self, sites: Sites, u: Tensor) -> Tensor:
        """(N,): the digits at which the cdf passes u (N,)."""
        if not has_quantile(self._prediction):
            return inverse_cdf(self[sites], u)
        found = self._prediction.quantile(sites, u)
        self._watch.see(found < 0, self._step)
        return found.clamp(min=0)
