"""Arrays: `.npy` files come back byte for byte."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm import formats
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats import read, render
from file_samples import noise, npy, picture, saved, stays

TYPES = ["u1", "i1", "?", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<i8", ">u8"]


@given(type=st.sampled_from(TYPES), shape=st.lists(st.integers(0, 12), max_size=5), fortran=st.booleans(),
       version=st.sampled_from([None, (2, 0), (3, 0)]), seed=st.integers(0, 9))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_arrays_come_back_byte_for_byte(type, shape, fortran, version, seed):
    raw = noise(int(np.prod(shape, dtype=int)) * np.dtype(type).itemsize, seed=seed)
    x = (raw % 2 if type == "?" else raw).view(type).reshape(shape, order="F" if fortran else "C")
    data = npy(x, version=version)
    if version == (3, 0):
        stays(data, "header")
        return
    content = read(data).content
    assert content.kind == Kind.ARRAY
    assert render(content) == data
    assert set(content.about) == ({"head"} if version else set())
    if content.samples.size and content.layout.endswith(" C"):
        assert content.samples.tobytes() == x.astype(x.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        ((8, 9), (1, 8, 9)), ((8, 9, 3), (3, 8, 9)), ((8, 9, 1), (1, 8, 9)), ((4, 8, 9), (4, 8, 9)),
        ((7, 9), None), ((8, 9, 5), None), ((5, 8, 9), None), ((1, 4, 8, 9), None), ((100,), None), ((3, 9, 7), None),
    ],
)  # fmt: skip
def test_arrays_that_look_like_pictures(shape, samples):
    for dtype, order in product(("u1", "<u2", ">u2"), "CF"):
        x = np.asarray(noise(*shape, dtype=np.uint16).astype(dtype), order=order)
        content = read(npy(x)).content
        assert content.shape == (samples or (1, 1, x.nbytes)), (dtype, order)
        assert render(content) == npy(x), (dtype, order)
        if samples:
            assert np.array_equal(read(render(content, "png")).content.samples, content.samples), (dtype, order)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (npy(np.zeros(3)), "integers"),
        (npy(np.zeros(3, complex)), "integers"),
        (npy(np.array(["a"])), "integers"),
        (npy(np.zeros(3, "i4,f4")), "integers"),
        (npy(np.array([{}]), allow_pickle=True), "integers"),
        (npy(np.zeros(3, int))[:-1], "ends early"),
        (npy(np.zeros(3, np.int8)).replace(b"(3,), }" + b" " * 12, b"(1099511627776,), }"), "more than"),
        (npy(np.zeros(3, np.int8)).replace(b"(3,), }", b"(2000,)}"), "ends early"),
        (b"\x93NUMPY\1\0\4\0abcd", "header"),
        (b"\x93NUMPY", "header"),
    ],
)
def test_arrays_that_stay_as_they_are(data, why):
    stays(data, why)


def test_an_array_may_be_followed_by_something():
    data = npy(np.arange(9)) + b"more"
    assert render(read(data).content) == data


@given(type=st.sampled_from(TYPES), shape=st.lists(st.integers(1, 12), min_size=2, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_items_of_an_array(type, shape, seed):
    raw = noise(int(np.prod(shape)) * np.dtype(type).itemsize, seed=seed)
    x = (raw % 2 if type == "?" else raw).view(type).reshape(shape)
    found = formats.items(npy(x))
    assert len(found) == len(x)
    assert formats.joined(found) == npy(x)
    for item, row in zip(found, x, strict=True):
        assert item == read(npy(row)).content


def test_files_without_items():
    x = np.arange(24).reshape(4, 6)
    for data in (npy(x[0]), npy(x[:0]), npy(x.astype(float)), npy(x, version=(2, 0)), npy(np.asfortranarray(x)),
                 npy(x) + b"1", npy(x)[:-1], b"", b"text", saved(picture("L"), "PNG")):  # fmt: skip
        assert formats.items(data) is None


def test_joined_refuses_what_does_not_fit():
    one, two = formats.items(npy(np.zeros((1, 9), int))), formats.items(npy(np.zeros((1, 8), int)))
    for wrong in ([], one + two, [Content.of_bytes(b"a")]):
        with pytest.raises(ArdmError, match="only arrays of one layout"):
            formats.joined(wrong)
