"""Files of every version since format 1 decode for ever, to the same contents; broken ones are refused."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from ardm.codec import registry
from ardm.errors import CodecError, Unsupported
from ardm.exact.model import load

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

from make import WAVES, contents, decoded, fingerprint, made, wave_contents  # noqa: E402

INDEX = json.loads((GOLDEN / "golden.json").read_text())
FILES = sorted(p.stem for p in GOLDEN.glob("*.ardm") if not p.stem.startswith(("bundled-", "lines-")))


def test_nothing_was_lost_or_changed():
    assert sorted(INDEX) == FILES
    for name in FILES:
        assert hashlib.sha256((GOLDEN / f"{name}.ardm").read_bytes()).hexdigest() == INDEX[name]["sha256"], name


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("good")])
def test_good_files_decode(name):
    found = decoded((GOLDEN / f"{name}.ardm").read_bytes())
    assert [fingerprint(c) for c in found] == INDEX[name]["contents"]


@pytest.mark.parametrize("name", sorted(contents()))
def test_to_what_they_were_made_of(name):
    assert [fingerprint(contents()[name])] == INDEX[name]["contents"]


def test_to_what_the_model_along_wavefronts_drew():
    for name, content in wave_contents().items():
        assert [fingerprint(content)] == INDEX[f"good-wave-{name}"]["contents"]


@pytest.mark.parametrize("backend", ["float64", "int64", "numpy"])
@pytest.mark.parametrize(
    "name", ["good-image-coded", "good-image-part-coded", "good-archive-mixed", "good-check-0", "good-wave-archive"]
)
def test_every_backend_decodes_them(name, backend):
    found = decoded((GOLDEN / f"{name}.ardm").read_bytes(), backend)
    assert [fingerprint(c) for c in found] == INDEX[name]["contents"]


def test_the_same_bytes_are_still_written():
    """A model writes the same bytes as in that version.  (Deflated bytes may differ with another zlib.)"""
    again = made()
    for name in (
        "good-image-coded", "good-image-alpha", "good-image-grey", "good-archive-tiles", "good-check-8", "good-wave-square"
    ):  # fmt: skip
        assert again[name] == (GOLDEN / f"{name}.ardm").read_bytes(), name


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("bad")])
def test_bad_files_are_damaged(name):
    with pytest.raises(CodecError, match=INDEX[name]["said"]) as error:
        decoded((GOLDEN / f"{name}.ardm").read_bytes())
    assert not isinstance(error.value, Unsupported)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("unsupported")])
def test_what_a_later_version_may_write_is_not_called_damaged(name):
    with pytest.raises(Unsupported, match=INDEX[name]["said"]):
        decoded((GOLDEN / f"{name}.ardm").read_bytes())


def test_the_golden_model_is_still_read():
    for folder in (GOLDEN, WAVES):
        assert registry.machine(load(folder), "float32", "cpu") is not None
    assert json.loads((GOLDEN / "golden.json").read_text())
