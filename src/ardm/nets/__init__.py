"""Trunks: networks from input planes to features at the sites asked.  They know nothing of diffusion."""

from ardm.nets.local import Local
from ardm.nets.unet import UNet

__all__ = ["Local", "UNet"]
