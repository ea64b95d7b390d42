"""Archives of contents: every item is read alone, and costs little beside its stream."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ardm.codec import regions
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.content import Content
from ardm.errors import ArdmError
from contents import NONE, QUICK, Counting, Small, archived, coders, contents, image, models, some, values


@QUICK
@given(st.lists(contents(most=20), min_size=1, max_size=5), coders(), st.booleans())
def test_an_archive_gives_back_every_item(items, coder, named):
    names = [f"a/{k}" for k in range(len(items))] if named else None
    steps = []
    data, report = archived(items, names, coder, progress=lambda done, all: steps.append((done, all)))
    archive = open_archive(io.BytesIO(data))
    assert steps == [(k + 1, len(items)) for k in range(len(items))]
    assert (len(archive), archive.file_bytes, report.items) == (len(items), len(data), len(items))
    assert list(archive.items(models(coder))) == items
    order = [*[*range(len(items))][::-1], 0]
    assert list(archive.items(models(coder), order)) == [items[k] for k in order]
    assert [archive.item(k, models(coder)) for k in range(len(items))] == items
    assert archive.names == (None if names is None else tuple(names))
    if named:
        assert archive.find(names[-1]) == len(items) - 1
    (info,) = describe(data)
    assert (info.items, info.names) == (len(items), archive.names)
    for name in ("samples", "raw_bytes", "file_bytes", "header_bytes", "regions"):
        assert getattr(info, name) == getattr(report, name), name
    infos = [archive.info(k) for k in range(len(items))]
    assert [i.shape for i in infos] == [c.shape for c in items]
    assert sum(i.file_bytes for i in infos) + archive.header_bytes == len(data)


def test_items_of_several_regions(cut):
    for items in (some(3, shape=(3, 70, 40)), [*some(1, shape=(3, 70, 40)), Content.of_bytes(b"text" * 99)]):
        data, report = compress_archive(items, None, Small())
        archive = open_archive(io.BytesIO(data))
        assert list(archive.items(models(Small()))) == items
        assert archive.info(0).regions == 6
        assert archive.info(0).content_check == regions.crc_of(items[0].samples)
        assert report.regions == describe(data)[0].regions > 6


def test_at_most_three_bytes_an_item_stand_beside_its_stream():
    streams = []

    class Measuring(Small):
        def finish(self, coded, check, bits):
            streams.append(len(super().finish(coded, check, bits)))
            return super().finish(coded, check, bits)

    items = some(200)
    data, report = compress_archive(items, None, Measuring())
    archive = open_archive(io.BytesIO(data))
    assert archive.uniform
    assert len(data) - sum(streams) <= 3 * 200
    assert report.header_bytes == archive.header_bytes == len(data) - sum(streams)


def test_an_item_that_is_stored_costs_the_others_nothing():
    items = [*some(20), image(how="noise"), image(how="constant")]
    data, report = compress_archive(items, None, Small())
    archive = open_archive(io.BytesIO(data))
    assert archive.uniform
    assert report.methods == {"coded": 20, "raw": 1, "constant": 1}
    assert archive.info(20).file_bytes == 3072 + 6
    assert list(archive.items(models(Small()))) == items


def test_what_items_share_stands_once():
    about = {"icc": values("noise", (1, 1, 500)).tobytes()}
    data, _ = compress_archive([image(about=about, seed=k) for k in range(10)], None, Small())
    assert len(data) < compress_archive(some(10), None, Small())[1].file_bytes + 600
    archive = open_archive(io.BytesIO(data))
    assert archive.item(7, models(Small())) == image(about=about, seed=7)
    assert archive.info(3).about == {"icc": 500}


@pytest.mark.parametrize("uniform", [True, False])
def test_an_item_is_read_without_the_others(uniform):
    items = some(30) if uniform else [image((3, 20 + k, 30), seed=k, about={"exif": b"x" * k}) for k in range(30)]
    data, _ = compress_archive(items, [f"{k}.png" for k in range(30)], Small())
    file = Counting(data)
    archive = open_archive(file)
    assert archive.uniform == uniform
    assert file.seen == set(range(archive.header_bytes))
    sizes = [archive.info(k).file_bytes for k in range(30)]
    file.seen.clear()
    assert archive.item(11, models(Small())) == items[11]
    start = archive.header_bytes + sum(sizes[:11])
    assert file.seen == set(range(start, start + sizes[11]))


def test_originals_are_kept_in_archives_too():
    items, originals = some(2), [b"short", None]
    data, report = archived(items, ["a.png", "b.png"], Small(), originals)
    archive = open_archive(io.BytesIO(data))
    assert list(archive.items(models(Small()))) == [Content.of_bytes(b"short", "png"), items[1]]
    assert report.original_bytes == 5


def test_a_model_that_is_of_no_use_to_any_item_is_not_named():
    data, report = compress_archive([image(how="noise", seed=k) for k in range(3)], None, Small())
    assert report.model == describe(data)[0].model == ""
    assert len(list(open_archive(data).items(NONE))) == 3
    data, report = compress_archive(some(2), None, Small(refuse="too green"))
    assert report.refused == "too green"


def test_items_are_loaded_one_by_one():
    """A sequence may load its items on demand without keeping them."""

    class Loading(list):
        def __getitem__(self, k):
            raise AssertionError("not asked for by number")

        def __iter__(self):
            return (image(seed=k) for k in range(len(self)))

    data, _ = compress_archive(Loading([None] * 5), None, Small())
    assert list(open_archive(data).items(models(Small()))) == some(5)


@pytest.mark.parametrize(
    ("items", "names", "originals", "said"),
    [
        (0, None, None, "at least one"),
        (2, ["a"], None, "2 items and 1"),
        (2, None, [None], "original"),
        (2, ["a", "a"], None, "two items are named 'a'"),
        (2, ["a", "../b"], None, "'../b' cannot be"),
        (2, ["a", "/b"], None, "'/b'"),
        (2, ["a", "c:/b"], None, "'c:/b'"),
        (2, ["a", "b\\c"], None, "relative paths"),
        (2, ["a", "b\nc"], None, "relative paths"),
        (2, ["a", ""], None, "''"),
        (2, ["a", "caf\udce9"], None, "cannot be"),
    ],
)
def test_archives_that_cannot_be_made(items, names, originals, said):
    with pytest.raises(ArdmError, match=said.replace("/", "/")):
        archived(some(items), names, None, originals)


def test_the_two_kinds_of_file_know_each_other():
    one, several = compress(image())[0], compress_archive(some(2))[0]
    with pytest.raises(ArdmError, match="open_archive"):
        decompress(several, NONE)
    with pytest.raises(ArdmError, match="decompress"):
        open_archive(one)
    archive = open_archive(several)
    for item in (-1, 2):
        for look in (archive.info, lambda k: archive.item(k, NONE)):
            with pytest.raises(ArdmError, match="items 0 to 1"):
                look(item)
    with pytest.raises(ArdmError, match="no names"):
        archive.find("a")
