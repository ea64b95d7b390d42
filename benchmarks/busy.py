"""Slowdown of commands beside a busy process: a table of times on an idle and on a busy machine.

    python benchmarks/busy.py                  # a few minutes on two otherwise idle cores
    python benchmarks/busy.py --rounds 5 --limit 2

A Python loop occupies one core.  Rounds alternate, and the ratio is that of the medians.  Exits with 1 if a ratio exceeds
--limit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from PIL import Image

VARIABLES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")


@contextmanager
def busy(seconds=600):
    """Keep one core busy inside the `with` block."""
    code = f"import time; end = time.time() + {seconds}\nwhile time.time() < end: pass"
    loop = subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(0.2)
        yield
    finally:
        loop.kill()
        loop.wait()


def prepare(folder, tiles):
    """Write tiles of the demo image as files; return their paths."""
    with Image.open(Path(str(resources.files("ardm") / "assets" / "demo" / "tiles.png"))) as image:
        for k in range(tiles):
            x, y = 32 * k % image.width, 32 * (32 * k // image.width)
            image.crop((x, y, x + 32, y + 32)).save(folder / f"tile{k}.png")
    return sorted(map(str, folder.glob("tile*.png")))


def seconds(command, environment):
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ardm", *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--limit", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="keep OMP_NUM_THREADS and similar variables")
    parser.add_argument("--demo", action="store_true", help="also run the whole demo")
    options = parser.parse_args()
    environment = {k: v for k, v in os.environ.items() if options.keep or k not in VARIABLES}
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        files = prepare(Path(place), options.tiles)
        out = str(Path(place) / "out")
        commands = {
            "one tile": ["compress", "-qf", files[0]],
            f"{len(files)} tiles": ["compress", "-qf", *files],
            "one thread": ["compress", "-qf", "-T", "1", *files],
            "16 samples": ["sample", "cifar10-any-order", "-n", "16", "--calls", "20", "-o", f"{out}.png", "-f"],
        }
        if options.demo:
            commands["demo"] = ["demo", "--out", out]
        print(f"{'':12}  {'idle s':>8}  {'busy s':>8}  {'ratio':>6}", flush=True)
        for name, command in commands.items():
            seconds(command, environment)  # warm the caches
            idle, beside = [], []
            for _ in range(options.rounds):
                idle.append(seconds(command, environment))
                with busy():
                    beside.append(seconds(command, environment))
            ratio = statistics.median(beside) / statistics.median(idle)
            worst = max(worst, ratio)
            print(
                f"{name:12}  {statistics.median(idle):8.1f}  {statistics.median(beside):8.1f}  {ratio:6.2f}", flush=True
            )
    print(f"load before {os.getloadavg()[1]:.1f}, {os.cpu_count()} cores; worst {worst:.2f}, at most {options.limit}")
    sys.exit(worst > options.limit)


if __name__ == "__main__":
    main()
