"""Two thousand damaged files of every format; `python tests/fuzz_inputs.py` does as many as one likes."""

import pytest

import fuzz_inputs
from file_samples import SAMPLES

FILES = {
    name: files
    for name, files in SAMPLES.items()
    if name in ("png", "webp", "bmp", "tiff", "ppm", "wav", "flac", "npy")
}


@pytest.mark.parametrize("seed", range(4))
def test_every_file_comes_back_or_another_reader_agrees(seed):
    ways, failed = fuzz_inputs.run(FILES, 500, seed)
    assert not failed
    for name in FILES:  # not all of them are merely kept
        assert ways.get((name, "exact"), 0) + ways.get((name, "agrees"), 0) > 0, ways


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_whole_pass(name):
    assert {fuzz_inputs.passes(data) for data in FILES[name]} & {"exact", "agrees"}
