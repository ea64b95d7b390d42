"""Mutations of files, in every field: no error may go unnoticed, and only CodecError may be raised.

python tests/fuzz.py --count 100000        # the nightly run: about half an hour on one core

Files of every kind are broken in every way: bits, bytes, ranges, ends, two files crossed; and header fields with the
header's check corrected, so that the code behind the check is reached.  A mutation passes if the file is
refused, or decodes to what it was, unless it says that it has a check of fewer than 32 bits.  Time and memory are bounded, whatever a file claims.
"""

import argparse
import io
import random
import resource
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "golden")]

import numpy as np  # noqa: E402
from make import fingerprint  # noqa: E402

from ardm.codec import encode, registry  # noqa: E402
from ardm.codec.archive import compress_archive, open_archive  # noqa: E402
from ardm.codec.binary import Reader, crc8  # noqa: E402
from ardm.codec.decode import frames  # noqa: E402
from ardm.codec.describe import describe  # noqa: E402
from ardm.codec.header import Limits, read_header, short  # noqa: E402
from ardm.content import Content, Kind  # noqa: E402
from ardm.errors import CodecError  # noqa: E402

LIMITS = Limits(max_pixels=1 << 18, max_bytes=1 << 22, max_work=1 << 24)
SECONDS = 20.0
"""No mutation may take longer."""
GROWTH = 400 << 20
"""Bytes by which the process may grow over all mutations."""
MARKS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 129, 191, 192, 254, 255)


def seeds(models):
    """Files to break: name → bytes."""
    coder = models(INDEX["model"], INDEX["calls"])
    kind = {path.stem: path.read_bytes() for path in sorted((HERE / "golden").glob("good-*.ardm"))}
    kind.pop("good-image-regions")  # large
    picture = next(iter(decode(kind["good-image-coded"], models)))
    small = [Content(Kind.IMAGE, np.ascontiguousarray(picture.samples[:, y : y + 8, :8]), "png") for y in (0, 8, 16)]
    kind["small"] = encode.compress(small[0], coder)[0]
    kind["small archive"] = compress_archive(small, ["a", "b/c", "d"], coder)[0]
    kind["small archive without names"] = compress_archive(small, None, coder)[0]
    return kind


def decode(data, models):
    """All contents of a file, one after another."""
    if len(data) > 1 and data[1] >> 4 == 0xA:
        archive = open_archive(io.BytesIO(data), LIMITS)
        for item in range(len(archive)):
            archive.info(item)
        yield from archive.items(models)
    else:
        yield from frames(data, models, LIMITS)


def end_of_header(data):
    """The position of the header's CRC-8."""
    reader = Reader.open(data)
    read_header(reader)
    return reader.at - 1


def mutate(rng, name, files):
    """(what was done, bytes)."""
    data = bytearray(files[name])
    at = rng.randrange(len(data))
    what = rng.choice(
        [
            "bit",
            "bits",
            "byte",
            "mark",
            "cut",
            "end",
            "longer",
            "lost",
            "twice",
            "swap",
            "zeros",
            "cross",
            "field",
            "field",
            "field",
        ]
    )
    if what == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "bits":
        for _ in range(rng.randrange(2, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == "byte":
        data[at] = rng.randrange(256)
    elif what == "mark":
        data[at] = rng.choice(MARKS)
    elif what == "cut":
        del data[at:]
    elif what == "end":
        del data[-rng.randrange(1, 9) :]
    elif what == "longer":
        data += rng.randbytes(rng.randrange(1, 40))
    elif what == "lost":
        del data[at : at + rng.randrange(1, 20)]
    elif what == "twice":
        data[at:at] = data[at : at + rng.randrange(1, 20)]
    elif what == "swap":
        n = rng.randrange(1, 1 + len(data) // 4)
        a, b = rng.randrange(len(data)), rng.randrange(len(data))
        data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]
    elif what == "zeros":
        n = rng.randrange(1, 20)
        data[at : at + n] = bytes(len(data[at : at + n]))
    elif what == "cross":
        other = files[rng.choice(sorted(files))]
        data = bytearray(data[:at] + other[rng.randrange(len(other)) :])
    else:
        check = end_of_header(bytes(data))
        header = data[:check]
        for _ in range(rng.choice([1, 1, 1, 2])):
            where = rng.randrange(2, len(header))
            how = rng.randrange(4)
            if how == 0:
                header[where] = rng.choice(MARKS)
            elif how == 1:
                header[where] ^= 1 << rng.randrange(8)
            elif how == 2:
                header[where:where] = bytes([rng.choice(MARKS)])
            elif len(header) > 4:
                del header[where]
        data[: check + 1] = header + bytes([crc8(bytes(header))])
    return what, bytes(data)


@contextmanager
def bounded():
    """Raise TimeoutError where the block takes too long."""

    def stop(number, frame):
        raise TimeoutError(f"more than {SECONDS:.0f} seconds")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def weak(data):
    """Whether a file says that it has a check of fewer bits, which overlooks damage."""
    return describe(data)[0].check < 32


INDEX = {}


def run(count, seed, told=None):
    """Break files `count` times; raises AssertionError with all that is needed to repeat a mutation that fails."""
    model = registry.model(HERE / "golden")
    INDEX.update(model=short(model.identity), calls=model.default)
    models = registry.maker("auto", "cpu", 1, [model, HERE / "golden" / "waves"])
    files = seeds(models)
    wanted = {name: [fingerprint(c) for c in decode(data, models)] for name, data in files.items()}
    names, rng, outcomes = sorted(files), random.Random(seed), Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    for number in range(count):
        name = names[number % len(names)]
        what, data = mutate(rng, name, files)
        found, reason = [], ""
        try:
            with bounded():
                found.extend(fingerprint(content) for content in decode(data, models))
                outcome = "the same"
        except CodecError as error:
            outcome, reason = type(error).__name__, str(error)
        except Exception as error:
            raise AssertionError(
                f"mutation {number} of seed {seed}, {what} of {name}: {error!r}\n{data.hex()}"
            ) from error
        assert outcome == "the same" or (reason and "\n" not in reason), "a refusal without a reason in a line"
        whole = found == wanted[name]
        longer = data.startswith(files[name]) and found[: len(wanted[name])] == wanted[name]  # another frame follows
        shorter = files[name].startswith(data) and found == wanted[name][: len(found)]  # an end between two frames
        crossed = outcome == "the same" and any(data == other or data.endswith(other) for other in files.values())
        if outcome == "the same" and not (whole or longer or shorter or crossed or weak(data)):
            raise AssertionError(f"mutation {number} of seed {seed}, {what} of {name} passed unnoticed\n{data.hex()}")
        if outcome != "the same" and found and "check" not in name:
            assert found == wanted[name][: len(found)] or what == "cross", f"{number} of {seed}: wrong before it failed"
        outcomes[what, outcome] += 1
        if told is not None and number % 1000 == 999:
            told(number + 1, time.perf_counter() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH, f"memory grew by {grown >> 20} MiB"
    return outcomes


def main():
    """Run from the shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = run(options.count, options.seed, lambda n, s: print(f"{n} mutations, {s:.0f} s", flush=True))
    for (what, outcome), n in sorted(outcomes.items()):
        print(f"{what:8} {outcome:14} {n}")
    print(f"{sum(outcomes.values())} mutations: nothing silently wrong, no other error, no hang")


if __name__ == "__main__":
    main()
