"""Options of data sets: columns left out and binned, images of mixed sizes, folders of source code."""

from bisect import bisect_right

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ardm import data
from ardm.data import image_folder
from ardm.data.folders import rows_in
from ardm.errors import ArdmError
from ardm.schema import Schema, binned, learn
from ardm.settings import from_values
from ardm.train.recipe import DataConfig

# --- tables ---------------------------------------------------------------------------------------------------------------

ROWS = "".join(f"{n},{n % 3},{n * 0.5}\n" for n in range(40))
TABLE = "id,kind,size\n" + ROWS


def of_recipe(**settings):
    return data.of_config(from_values(DataConfig, settings), "all")


def test_columns_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    found = of_recipe(name="table", folder=str(tmp_path), drop=["id", "size"])
    assert found.schema.names == ("kind",)
    assert found.columns == (3,)
    assert found.items[:, 0].tolist() == [n % 3 for n in range(40)]


def test_numbers_are_binned_with_their_edges_on_the_schema(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    found = of_recipe(name="table", folder=str(tmp_path), drop=["id"], bins=4)
    assert found.columns == (3, 4)
    assert found.schema.edges == ((), (5.0, 10.0, 15.0))
    assert found.schema.categories[1] == ("2.0", "7.0", "12.0", "17.0")  # the lower medians of ten numbers each
    assert found.items[:, 1].tolist() == [n // 10 for n in range(40)]
    assert found.schema.encode("kind,size\n1,-100\n1,9.99\n1,10\n1,1e3\n") == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert found.schema.decode([[2, 3]]) == "kind,size\n2,17.0\n"
    again = Schema.from_values(found.schema.to_values())
    assert again == found.schema


@given(st.lists(st.integers(-9, 9) | st.floats(-1e6, 1e6), min_size=2, max_size=60), st.integers(2, 8))
def test_bins_by_definition(numbers, bins):
    """Not empty, at most so many, in order; each is written as a number of its own; and no more than by chance are unequal."""
    texts = [repr(number) for number in numbers]
    kinds, cuts = binned(texts, bins)
    place = [bisect_right(cuts, float(text)) for text in texts]
    assert set(place) == set(range(len(cuts) + 1)) == set(range(len(kinds)))
    assert len(kinds) <= bins
    for n, kind in enumerate(kinds):
        assert bisect_right(cuts, float(kind)) == n
        assert kind in texts
    if len(set(map(float, texts))) == len(texts):
        sizes = np.bincount(place)
        assert sizes.max() - sizes.min() <= 1


def test_a_table_is_read_by_the_schema_of_another(tmp_path):
    """Bins, classes and dropped columns are those of the first; columns are found by their names, in any order."""
    rng = np.random.default_rng(0)
    rows = [(n, rng.normal(), "abc"[rng.integers(3)]) for n in range(400)]
    (tmp_path / "one.csv").write_text("id,size,kind\n" + "".join(f"{n},{v:.3f},{k}\n" for n, v, k in rows))
    one = data.table(tmp_path / "one.csv", drop=["id"], bins=8)
    some = [r for r in rows if r[2] != "a"]
    (tmp_path / "two.csv").write_text("kind,more,size\n" + "".join(f"{k},x,{v:.3f}\n" for _, v, k in some) + "b,x,99\n")
    two = data.table(tmp_path / "two.csv", schema=one.schema)
    assert (two.schema, two.columns, two.classes) == (one.schema, one.columns, one.classes)
    wanted = one.items[torch.tensor([r[2] != "a" for r in rows])]
    assert torch.equal(two.items[:-1], wanted)
    assert two.items[-1].tolist() == [7, 1], "beyond all numbers of the first: its last bin"
    test = data.table(tmp_path / "two.csv", "test", schema=one.schema)
    assert torch.equal(test.items, two.items[rows_in(len(two), "test", tmp_path, "rows")])
    (tmp_path / "three.csv").write_text("kind,size\nd,1\n")
    with pytest.raises(ArdmError, match=r"three\.csv: row 1, column 'kind': 'd' is not a known value"):
        data.table(tmp_path / "three.csv", schema=one.schema)


def test_numbers_behind_spaces_are_binned_too():
    """As in adult.data of the UCI repository, where a space follows every comma."""
    schema, rows = learn("kind, size\n" + "".join(f"x, {n}\n" for n in range(40)), bins=4)
    plain, same_rows = learn("kind,size\n" + "".join(f"x,{n}\n" for n in range(40)), bins=4)
    assert (schema.edges, rows) == (plain.edges, same_rows)
    assert schema.categories[1] == tuple(f" {n}" for n in plain.categories[1])
    assert schema.encode("kind, size\nx, 12.5\nx,12.5\n") == [[0, 1], [0, 1]]


def test_schemas_without_bins_are_stored_as_before():
    assert "edges" not in learn("a,b\nx,1\ny,2\n")[0].to_values()


def test_arrays_have_numbered_columns(tmp_path):
    np.save(tmp_path / "t.npy", np.stack([np.arange(30), np.arange(30) % 2], 1))
    found = data.table(tmp_path / "t.npy", drop=["column 2"], bins=3)
    assert found.schema.names == ("column 1",)
    assert found.schema.edges == ((10.0, 20.0),)
    assert data.table(tmp_path / "t.npy").columns == (30, 2)


def test_refusals_of_tables():
    with pytest.raises(ArdmError, match=r"no column 'idd' to drop; did you mean 'id'"):
        learn(TABLE, drop=["idd"])
    with pytest.raises(ArdmError, match=r"no columns left"):
        learn(TABLE, drop=["id", "kind", "size"])
    with pytest.raises(ArdmError, match=r"data.bins must be 0"):
        learn(TABLE, bins=1)
    long = "id,x\n" + "".join(f"{n},1\n" for n in range(1500))
    with pytest.raises(ArdmError, match=r"1500 distinct values .*data.drop.*data.bins"):
        learn(long)
    assert learn(long, bins=10)[0].columns == (10, 1)
    mixed = long + "?,1\n"
    with pytest.raises(ArdmError, match=r"1501 distinct values .* only columns of numbers, and this one holds '\?'"):
        learn(mixed, bins=10)
    with pytest.raises(ArdmError, match="its edges do not fit"):
        Schema(("a",), (("1", "2"),), edges=((2.0, 1.0),))


# --- images ---------------------------------------------------------------------------------------------------------------


def save(folder, name, height, width, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{name}.png")
    return image


def test_images_of_mixed_sizes_are_refused_with_the_way_out(tmp_path):
    save(tmp_path, "a", 8, 8)
    save(tmp_path, "b", 8, 9)
    with pytest.raises(ArdmError, match=r"b.png is 8 x 9 .* data.fit=crop, resize or tile takes images of mixed sizes"):
        data.images(tmp_path)
    with pytest.raises(ArdmError, match=r"set data.size"):
        data.images(tmp_path, fit="crop")
    with pytest.raises(ArdmError, match="did you mean 'crop'"):
        data.images(tmp_path, size=4, fit="crops")


def test_crop_takes_the_middle(tmp_path):
    a, b = save(tmp_path, "a", 8, 10), save(tmp_path, "b", 5, 4, seed=1)
    found = of_recipe(name="images", folder=str(tmp_path), size=4, fit="crop")
    assert torch.equal(found.items[0, 0], torch.from_numpy(a[2:6, 3:7].copy()))
    assert torch.equal(found.items[1, 0], torch.from_numpy(b[0:4].copy()))
    save(tmp_path, "c", 3, 9)
    with pytest.raises(ArdmError, match=r"c.png is 3 x 9 .*smaller than 4 x 4: remove it, or take data.fit=resize"):
        data.images(tmp_path, size=4, fit="crop")


def test_tiles_put_together_are_the_image(tmp_path):
    image = save(tmp_path, "a", 9, 13)
    found = data.images(tmp_path, size=(4, 3), fit="tile")
    assert found.items.shape == (8, 1, 4, 3)
    rows = [np.concatenate([tile[0] for tile in found.items[4 * r : 4 * r + 4].numpy()], 1) for r in range(2)]
    assert np.array_equal(np.concatenate(rows), image[:8, :12])


def test_resize_keeps_the_aspect_and_what_has_the_size(tmp_path):
    same = save(tmp_path, "a", 4, 4)
    save(tmp_path, "b", 3, 50)
    found = data.images(tmp_path, size=4, fit="resize")
    assert found.items.shape == (2, 1, 4, 4)
    assert torch.equal(found.items[0, 0], torch.from_numpy(same))
    halves = np.zeros((3, 8, 32), np.uint8)
    halves[:, :, 16:] = 255
    made = image_folder.resized(halves, 4, 4)
    assert made.shape == (1, 3, 4, 4)
    assert made[..., 0].max() < 30 < 225 < made[..., 3].min()  # the middle of the wide image, at half its size


def test_colour_among_grey_needs_channels(tmp_path):
    save(tmp_path, "a", 8, 8)
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    with pytest.raises(ArdmError, match=r"b.png has 3 channels, .*a.png 1: set data.channels"):
        data.images(tmp_path, size=4, fit="tile")
    assert data.images(tmp_path, size=4, channels=3, fit="tile").items.shape == (8, 3, 4, 4)


# --- source code ----------------------------------------------------------------------------------------------------------


def test_folders_of_source_code(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in (("b.py", "b = 1"), ("inner/a.PY", "a = 2"), ("c.txt", "no"), (".git/d.py", "hidden")):
        (tmp_path / name).write_text(text)
    for suffixes in ([".py"], ["py"], ["*.py"]):
        found = of_recipe(name="text", folder=str(tmp_path), length=5, suffixes=suffixes)
        assert bytes(found.items.flatten().tolist()) == b"b = 1a = 2"
    assert "1 other file" in found.about
    with pytest.raises(ArdmError, match=r"expected files ending in \.rs"):
        data.text(tmp_path, suffixes=[".rs"])
    with pytest.raises(ArdmError, match="suffixes are endings"):
        data.text(tmp_path, suffixes=[""])
