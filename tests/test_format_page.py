"""The page of the file format: its examples, and a decoder written from it alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import by_the_page
from ardm.codec import fallback as stored
from ardm.codec import index
from ardm.codec.archive import compress_archive
from ardm.codec.encode import compress
from ardm.codec.header import MODEL_SITES, SPANS, Limits, Method
from ardm.codec.steps import MAX_CALLS, MAX_STARTS
from ardm.content import ORIGINS, Content, Kind, Lines
from contents import QUICK, Small, contents

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text()


def examples():
    red_blue = Content(Kind.IMAGE, np.array([[[255, 0]], [[0, 0]], [[0, 255]]], np.uint8), "png")
    red = Content(Kind.IMAGE, np.array([[[255, 255]], [[0, 0]], [[0, 0]]], np.uint8), "png")
    grey = Content(Kind.IMAGE, np.array([[[0, 1, 2, 3], [1, 2, 3, 4], [0, 0, 0, 1]]], np.uint8), "png")
    more = [[[2, 0, 1, 5], [3, 1, 0, 0], [1, 4, 2, 0], [0, 7, 1, 0], [0, 2, 6, 1]]]
    taller = replace(grey, samples=np.concatenate([grey.samples, np.array(more, np.uint8)], axis=1))
    halves = Content(Kind.IMAGE, np.repeat(np.array([[[0, 7]]], np.uint8), 32, 1).repeat(32, 2), "png")
    return {
        "stored": compress(red_blue)[0],
        "coded": compress(grey, Small(1, calls=0))[0],
        "calls": compress(grey, Small(1))[0],
        "schedule": compress(taller, Small(1, calls=(0, 1, 5)))[0],
        "bare": compress(grey, Small(1, calls=0), check=8, bare=True)[0],
        "split": compress(halves)[0],
        "lines": compress_archive([Content.of_bytes(b"a"), Content.of_bytes(b"bc")], lines=Lines(ended=False))[0],
        "archive": compress_archive([red_blue, red])[0],
    }


def test_the_examples_of_the_page_are_what_is_written(cut):
    blocks = dict(re.findall(r"<!-- example: (\w+) -->\n```text\n(.*?)```", PAGE, re.S))
    told = {
        name: "".join(re.match(r"(?:[0-9A-F]{2} {1,2})+", f"{line} ")[0] for line in block.splitlines())
        for name, block in blocks.items()
    }
    assert {name: bytes.fromhex(text) for name, text in told.items()} == examples()


def test_the_page_names_every_number_of_the_format():
    for number, method in enumerate(Method):
        assert f"| {number} | {method.name.lower()} |" in PAGE
    for kind in Kind:
        assert f"| {int(kind)} | {kind.name.lower()} |" in PAGE
    for code, origin in enumerate(ORIGINS):
        assert f"{code} {origin or 'none'}" in " ".join(PAGE.split())
    for exponent, number in (
        (16, MAX_STARTS), (20, MAX_CALLS), (22, stored.DICTIONARY), (22, MODEL_SITES), (24, index.MAX_ABOUT), (26, index.MAX_DIRECTORY),
        (28, Limits().max_pixels), (31, Limits().max_bytes), (34, Limits().max_work),
    ):  # fmt: skip
        assert number == 1 << exponent
        assert f"2{str(exponent).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}" in PAGE
    assert f"{SPANS[0]} to {SPANS[-1]}" in PAGE


def found(form, about, samples):
    dtype = "<u2" if form["size"] == 2 else "u1"
    x = np.frombuffer(samples, dtype).reshape(form["C"], form["H"], form["W"])
    return Content(Kind(form["kind"]), x, form["origin"], about, form["rate"], form["layout"])


@QUICK
@given(st.lists(contents(most=20), min_size=1, max_size=4), st.booleans())
def test_a_decoder_written_from_the_page_reads_the_same(monkeypatch, cut, items, named):
    monkeypatch.setattr(stored, "_write_flac", lambda x: b"")
    assert [found(*item) for item in by_the_page.read(compress(items[0])[0])[1]] == items[:1]
    names = [f"{k}/x" for k in range(len(items))] if named else None
    told, every = by_the_page.read(compress_archive(items, names)[0])
    assert (told, [found(*item) for item in every]) == (names, items)
