"""The paper's claims C1 to C26: the statement, the results that test it, and the verdict of their figures.

A verdict follows from results alone: it holds, does not hold here, or is not reached here, with the reason.  A claim without
results is not reached, and names the command that would measure it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import claims_coding as coding
import claims_method as method
import claims_models as models
from claims_coding import PLANNED_CODING
from claims_method import CURVES
from figures import UNREACHED, Results, Verdict
from published import AUDIO, CODING, IMAGES, TEXT


@dataclass(frozen=True)
class Claim:
    """One claim.

    needs: names of the results that it requires.  judge: computes the verdict and its figures from them.
    paper: the paper's figures.  also: further results that it uses if available.
    """

    key: str
    says: str
    needs: tuple[str, ...]
    judge: Callable[[Results], Verdict]
    paper: str = ""
    also: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that measures it."""
        return f"run.py {' '.join(self.needs + self.also)}" if self.needs else ""

    def verdict(self, results: Results) -> Verdict:
        """The verdict on these results."""
        missing = [name for name in self.needs if name not in results]
        if missing:
            return UNREACHED, f"not measured: {', '.join(missing)}"
        return self.judge(results)


CLAIMS: tuple[Claim, ...] = (
    Claim("C1", "The training step is an unbiased estimate of the any-order bound", ("enumeration",), method.c1),
    Claim("C2", "No causal network is needed, and nothing leaks", ("leak",), method.c2),
    Claim("C3", "A training step takes one network call, whatever D and S", ("step-time",), method.c3),
    Claim("C4", "L_t does not increase with t", CURVES, method.c4),
    Claim("C5", "k symbols generated at once cost k·L_t", CURVES, method.c5),
    Claim("C6", "The planner is optimal and beats uniform steps", ("planner", "text-any-order"), method.c6),
    Claim("C7", "K planned calls cost no more than absorbing diffusion in K steps", CURVES, method.c7,
          f"{TEXT['any order, 20 calls']} against {TEXT['absorbing, 20 steps']}"),
    Claim("C8", "D calls match absorbing diffusion in many more steps", ("text-any-order",), method.c8,
          f"{TEXT['any order']} against {TEXT['absorbing, 1000 steps']}"),
    Claim("C9", "Better than the causal order-agnostic Transformer", ("text-any-order", "text-causal"), models.c9,
          f"{TEXT['any order']} against {TEXT['causal, any order']}"),
    Claim("C10", "On text a gap to one order remains", ("text-any-order", "text-one-order"), models.c10,
          f"{TEXT['any order']} against {TEXT['one order']}"),
    Claim("C11", "20 of 250 calls cost at most 0.08 bits per character", ("text-any-order",), models.c11, "0.08"),
    Claim("C12", "Upscaling improves images; base 2 no more than base 4",
          ("images-any-order", "images-upscale-4"), models.c12,
          f"{IMAGES['upscale 4']} against {IMAGES['any order']}", ("images-upscale-2", "images-upscale-16")),
    Claim("C13", "Upscaling improves sound greatly, and beats one order",
          ("speech-one-order", "speech-any-order", "speech-upscale-4"), models.c13,
          f"{AUDIO['upscale 4']} against {AUDIO['any order']}, one order {AUDIO['one order']}",
          ("speech-any-order-chain", "speech-one-order-chain", "speech-upscale-256-mixture", "speech-upscale-256",
           "speech-upscale-16")),
    Claim("C14", "Upscaled sound keeps its rate at very small budgets", ("speech-upscale-4",), models.c14,
          f"{AUDIO['upscale 4, 8 × 50 calls']} against {AUDIO['upscale 4']}"),
    Claim("C15", "Direct and data parametrisation perform alike",
          ("parametrisation", "images-any-order", "images-upscale-4", "images-upscale-4-values"), models.c15),
    Claim("C16", "Upscaling does not help text", ("text-any-order", "text-upscale-3"), models.c16),
    Claim("C17", "Streams are as long as the bound, alone or together", ("bundled-coding", "planned-any-order"), coding.c17,
          also=("planned-upscale-4",)),
    Claim("C18", "Few calls suffice for coding", ("planned-any-order",), coding.c18,
          f"{CODING['any order, 100 calls']} against {CODING['any order, 500 calls']}", ("planned-upscale-4",)),
    Claim("C19", "The order matters little: spread below 0.02", ("bundled-orders",), coding.c19, "< 0.02"),
    Claim("C20", "Better than IDF++, FLIF, WebP and PNG on single CIFAR-10 images", ("bundled-coding",), coding.c20,
          f"{CODING['upscale 4, 500 calls']} against {CODING['FLIF']}, {CODING['IDF++']}", tuple(PLANNED_CODING)),
    Claim("C21", "Absorbing diffusion in continuous time is this model", ("continuous-time",), method.c21),
    Claim("C22", "The auxiliary term matters little", ("images-any-order", "images-any-order-ce"), models.c22),
    Claim("C23", "Any part can be known: infilling without retraining", ("bundled-filling",), coding.c23),
    Claim("C24", "One model serves any budget of calls", ("bundled-curve",), method.c24),
    Claim("C25", "The number of mixture components hardly matters",
          ("speech-any-order", "speech-any-order-30", "speech-any-order-3", "speech-one-order"), models.c25),
    Claim("C26", "The gain of upscaling shrinks or breaks at very small budgets",
          ("images-any-order", "images-upscale-4", "images-any-order-mixture", "images-upscale-4-mixture"), models.c26,
          f"{CODING['upscale 4, 100 calls']} against {CODING['any order, 100 calls']}"),
)  # fmt: skip
"""All claims, in order."""
