"""Compressed records in SQLite: 10,000 lines of JSON, found by key and by an indexed column, decoded together.

    python examples/records_sqlite.py                    # two minutes on one core
    python examples/records_sqlite.py --records 100 --model mine/model

Each record is a blob of its own, so a query decodes the rows that it selects and nothing else.  What queries search for
(here key, level and service) stays in columns of its own.  `bare` blobs do not say which model made them: the
application knows.
"""

import argparse
import json
import sqlite3
import time
import zlib

import numpy as np

import ardm

TOGETHER = 500
"""Records that pass through the network together."""
PHRASES = (
    "upstream request timed out",
    "retry",
    "connection refused by peer",
    "cache miss",
    "token expired",
    "session closed",
)


def record(key: int) -> dict:
    """A line of a log, the same for the same key."""
    rng = np.random.default_rng(key)
    return {
        "key": key,
        "level": str(rng.choice(["debug", "info", "warning", "error"], p=[0.4, 0.4, 0.15, 0.05])),
        "service": str(rng.choice(["checkout", "search", "mail"])),
        "took_ms": int(rng.gamma(2, 40)),
        "message": "; ".join(rng.choice(PHRASES, rng.integers(2, 6))),
    }


def fill(base: sqlite3.Connection, codec: ardm.Codec, count: int) -> tuple[int, int]:
    """Insert records; returns their bytes, and those of their blobs."""
    base.execute("CREATE TABLE records (key INTEGER PRIMARY KEY, level TEXT, service TEXT, body BLOB)")
    base.execute("CREATE INDEX by_level ON records (level, service)")
    raw = packed = 0
    for first in range(0, count, TOGETHER):
        rows = [record(key) for key in range(first, min(first + TOGETHER, count))]
        lines = [json.dumps(row).encode() for row in rows]
        blobs = codec.encode_many(lines)
        with base:
            base.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?)",
                [(row["key"], row["level"], row["service"], blob) for row, blob in zip(rows, blobs, strict=True)],
            )
        raw, packed = raw + sum(map(len, lines)), packed + sum(map(len, blobs))
    return raw, packed


def select(base: sqlite3.Connection, codec: ardm.Codec, where: str, *values: object) -> list[dict]:
    """The records that a condition selects, decoded together."""
    blobs = [blob for (blob,) in base.execute(f"SELECT body FROM records WHERE {where}", values)]
    return [json.loads(line) for line in codec.decode_many(blobs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--model", default="english")
    parser.add_argument("--database", default=":memory:")
    given = parser.parse_args()

    codec = ardm.Codec(given.model, bare=True, check=8)
    with sqlite3.connect(given.database) as base:
        began = time.perf_counter()
        raw, packed = fill(base, codec, given.records)
        print(f"{given.records} records: {raw} -> {packed} bytes, {time.perf_counter() - began:.1f} s")
        alone = sum(len(zlib.compress(json.dumps(record(key)).encode(), 9)) for key in range(given.records))
        print(f"zlib, each alone: {alone} bytes")

        began, key = time.perf_counter(), given.records // 2
        assert select(base, codec, "key = ?", key) == [record(key)]
        print(f"one record by key: {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        found = select(base, codec, "level = 'error' AND service = 'mail' LIMIT 100")
        assert found == [record(row["key"]) for row in found]
        assert all(row["service"] == "mail" for row in found)
        print(f"{len(found)} records by level and service: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
