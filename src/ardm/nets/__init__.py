"""Networks: planes or tokens in, features at the sites asked out.  They know nothing of diffusion."""

from ardm.nets.bytenet import ByteNet
from ardm.nets.centred import Centred
from ardm.nets.decoder import Decoder
from ardm.nets.dit import DiT
from ardm.nets.lattice import LatticePerceptron
from ardm.nets.recurrent import Recurrent
from ardm.nets.table import ColumnOutput, Table
from ardm.nets.transformer import Transformer
from ardm.nets.unet import PaperUNet, UNet
from ardm.nets.wavefront import Wavefront
from ardm.nets.wavenet import WaveNet

__all__ = [
    "ByteNet", "Centred", "ColumnOutput", "Decoder", "DiT", "LatticePerceptron", "PaperUNet", "Recurrent", "Table",
    "Transformer", "UNet", "WaveNet", "Wavefront",
]  # fmt: skip
