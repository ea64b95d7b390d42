"""A data set encoded by Dask, partition by partition, into Parquet files: needs `pip install dask pyarrow`.

    python examples/dataset_dask.py --out tiles                      # 2,000 tiles of the bundled pictures
    python examples/dataset_dask.py --scheduler processes            # or an address, for workers on other machines

A partition is loaded, encoded and written by one task, so no machine holds more than its partitions.  A codec is
pickled by the name of its model, which every worker must have.  Reading selects rows by key and decodes only those.
"""

import argparse
import tempfile
import time
from importlib import resources
from pathlib import Path

import dask
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from PIL import Image

import ardm

SIDE = 24


def tile(key: int) -> np.ndarray:
    """A square (3, SIDE, SIDE) of a bundled picture, the same for the same key; replace it by your reader."""
    rng = np.random.default_rng(key)
    name = ("astronaut", "chelsea", "coffee")[key % 3]
    with Image.open(str(resources.files("ardm") / "assets" / "demo" / f"{name}.png")) as picture:
        x = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    top, left = (int(rng.integers(side - SIDE + 1)) for side in x.shape[1:])
    return x[:, top : top + SIDE, left : left + SIDE]


def encode_part(codec: ardm.Codec, keys: range, path: Path) -> int:
    """Encode the tiles of some keys to a Parquet file; returns the bytes of their codes."""
    codes = codec.encode_many(tile(key) for key in keys)
    table = pa.table({"key": pa.array(keys, pa.int64()), "tile": pa.array(codes, pa.binary())})
    pa.parquet.write_table(table, path, compression="none")  # codes do not shrink again
    return sum(map(len, codes))


def read(folder: Path, codec: ardm.Codec, keys: list[int]) -> dict[int, np.ndarray]:
    """The tiles of some keys, decoded together."""
    found = pa.dataset.dataset(folder).to_table(filter=pa.dataset.field("key").isin(keys))
    tiles = codec.decode_many(found["tile"].to_pylist())
    return dict(zip(found["key"].to_pylist(), tiles, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--part", type=int, default=250, help="tiles of a partition")
    parser.add_argument("--scheduler", default="threads", help="threads, processes, or the address of a scheduler")
    parser.add_argument("--model", default="pictures-small")
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp()) / "tiles")
    given = parser.parse_args()

    given.out.mkdir(parents=True)
    codec, began = ardm.Codec(given.model, threads=1), time.perf_counter()  # Dask supplies the parallelism
    parts = [range(a, min(a + given.part, given.tiles)) for a in range(0, given.tiles, given.part)]
    tasks = [
        dask.delayed(encode_part)(codec, part, given.out / f"part-{number:05}.parquet")
        for number, part in enumerate(parts)
    ]
    size = sum(dask.compute(*tasks, scheduler=given.scheduler))
    print(f"{given.tiles} tiles in {len(parts)} files, {time.perf_counter() - began:.1f} s")
    print(f"{8 * size / (given.tiles * 3 * SIDE**2):.3f} bits per sample, headers included")

    keys = [0, given.tiles // 2, given.tiles - 1]
    found = read(given.out, codec, keys)
    assert sorted(found) == sorted(set(keys))
    assert all(np.array_equal(found[key], tile(key)) for key in keys)
    print(f"keys {keys} read back from {given.out}")


if __name__ == "__main__":
    main()
