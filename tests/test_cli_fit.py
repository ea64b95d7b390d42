"""`ardm fit`: what is kept apart, what is learned from, what is counted, and one command from lines to a codec."""

import os
import signal
from shutil import rmtree
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ardm
from ardm.bench import payback
from ardm.bench.classical import classical
from ardm.bench.codec import Codec
from ardm.bench.compare import Row
from ardm.bench.payback import Payback
from ardm.cli.app import app
from ardm.codec import registry
from ardm.content import Content, Kind
from ardm.data import cuts, memory
from ardm.data.dataset import ALL
from ardm.data.records import learned
from ardm.data.samples import Samples, folded, form, read, shape_key
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.train import fit as fitting
from ardm.train import keywords

WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty"]


def lines(n=90, seed=0):
    """Records that differ in more than numbers."""
    draw = np.random.default_rng(seed)
    return [f'{{"n":{k},"at":"{" ".join(draw.choice(WORDS, 4))}"}}' for k in range(n)]


def texts(*items):
    contents = tuple(Content.of_bytes(item.encode()) for item in items)
    return Samples("text", contents, (None,) * len(contents))


# --- parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", ["GET /users/7 took 12 ms", "get  /users/7  took 4012 ms ", "GET /users/deadbeef01 took 1 ms"]
)
def test_texts_that_differ_in_case_space_and_numbers_have_one_key(other):
    assert form(b"GET /users/31 took 8 ms") == form(other.encode())
    assert form(b"GET /users/31 took 8 ms") != form(b"GET /orders/31 took 8 ms")
    assert form(b"a feedface") == "a feedface", "a word of these letters is no number"


def test_items_of_one_key_are_in_one_part_and_others_move_none():
    given = lines(300)
    few, many = texts(*given), texts(*given, *(line.upper().replace("N", "n") for line in given), *lines(200, 1))
    where = {part: {c.samples.tobytes() for c in found.contents} for part, found in many.parts().items()}
    for part, found in few.parts().items():
        assert {c.samples.tobytes() for c in found.contents} <= where[part]
        keys = {form(text) for text in where[part]}
        assert all(keys.isdisjoint(map(form, others)) for name, others in where.items() if name != part)
    assert sum(map(len, where.values())) == len({c.samples.tobytes() for c in many.contents})


def test_numbers_count_where_texts_hardly_differ_by_anything_else():
    logs = texts(*(f"job {n} done" for n in range(200)))
    assert logs.keys == [folded(f"job {n} done".encode()) for n in range(200)]
    assert logs.promise == "texts that are equal up to case and white space"
    assert texts(*lines()).promise == "texts that are equal up to case, white space and numbers"
    assert min(map(len, logs.parts().values())) >= 2


def test_a_picture_and_its_brighter_larger_copy_have_one_key():
    x = np.random.default_rng(0).integers(0, 100, (3, 8, 8), np.uint8)
    twice = (x.repeat(2, 1).repeat(2, 2) * 2 + 3).astype(np.uint8)
    assert (
        shape_key(Content(Kind.IMAGE, x))
        == shape_key(Content(Kind.IMAGE, twice))
        != shape_key(Content(Kind.IMAGE, 99 - x))
    )


# --- training items -------------------------------------------------------------------------------------------------------


def test_every_byte_of_a_text_is_predicted_once_and_what_precedes_it_is_given():
    given = [bytes(range(n)) * 3 for n in (1, 21, 22, 43, 60)] + [b"x"]
    found, at = cuts.texts(given, "t"), 0
    for text in given:
        back = b""
        while len(back) < len(text):
            item, known = found.items[at].numpy(), found.given[at].numpy()
            lead = int((known == ALL).sum())
            assert lead == min(len(back), cuts.LEAD)
            assert item[:lead].tobytes() == back[len(back) - lead :]
            assert ((known == 0).nonzero()[0] == np.arange(lead, lead + int(found.bytes[at]))).all()
            back += item[known == 0].tobytes()
            at += 1
        assert back == text
    assert at == len(found)


def test_tiles_are_whole_and_grey_is_every_channel():
    grey, colours = np.arange(40 * 70, dtype=np.uint32).reshape(1, 40, 70), np.zeros((4, 33, 32))
    contents = [Content(Kind.IMAGE, x.astype(np.uint8)) for x in (grey, colours)]
    found = cuts.training(Samples("image", tuple(contents), (None, None)), "p")
    assert found.items.shape == (3, 3, 32, 32)
    assert (found.items[1].numpy() == grey[:, :32, 32:64].astype(np.uint8)).all()


def test_calibration_reads_no_padding():
    found = cuts.texts([b"abc", b"defgh", b"ij", b"klmn"], "t")
    assert (found.given == PADDING).any()
    assert {bytes(row.tolist()) for row in fitting.examples(found, 2)} == {b"defg", b"klmn"}


def test_codecs_of_pictures_start_from_bundled_ones():
    colour = cuts.training(
        Samples("image", (Content(Kind.IMAGE, np.zeros((3, 32, 32), np.uint8)),) * 2, (None,) * 2), "p"
    )
    recipe = keywords.recipe_of({}, colour, "image", codec=True)
    assert recipe.train.init == "pictures-small"
    assert recipe.model.width == ardm.load("pictures-small").config.width
    assert keywords.recipe_of({"width": 16}, colour, "image", codec=True).train.init == ""


# --- what it is worth -----------------------------------------------------------------------------------------------------


def test_when_a_model_is_paid_back():
    draw = np.random.default_rng(0)
    for _ in range(300):
        once, shared, mine, theirs = (int(n) for n in draw.integers(0, 30, 4))
        items, row = [None] * 7, Row("their", sizes=(theirs,), shared=shared)
        found = Payback(items, [row], Row("ours", sizes=(mine,)), once).after(row)
        paid = [n for n in range(1, 500) if 7 * once + n * mine <= 7 * shared + n * theirs]
        assert found == (paid[0] if paid else None)


def test_the_verdict_names_the_winner():
    row, items = Row("zstd", sizes=(50,), shared=10), [Content.of_bytes(b"x" * 90)]
    assert Payback(items, [row], Row("m", sizes=(40,)), 30).verdict.endswith(
        "20% less than zstd; its own 30 bytes are paid back after 2 items."
    )
    assert Payback(items, [row], Row("m", sizes=(51,)), 30).verdict.startswith(
        "zstd wins: 50.0 bytes an item, the model 51.0"
    )


def test_bare_frames_of_zstd_lack_four_bytes():
    pytest.importorskip("zstandard")
    items = [Content.of_bytes(line.encode()) for line in lines(200)]
    for name in ("zstd -22", "zstd -22, trained"):
        sizes = [
            classical(items[:3], items[3:], names=[name], bare=bare)[0].compress(items[:3]).sizes
            for bare in (False, True)
        ]
        assert [a - b for a, b in zip(*sizes, strict=True)] == [4] * 3


@pytest.mark.parametrize(("room", "few", "many"), [(0, 1, 10), (8, 3, 10), (80, 20, 60)])
def test_measuring_keeps_to_its_time(monkeypatch, room, few, many):
    """An item takes a second to encode, and a second to decode."""
    clock, items, decoded = [0.0], [Content.of_bytes(b"%d" % n) for n in range(100)], []

    def encode(content):
        clock[0] += 1
        return content.samples.tobytes()

    def decode(data, form):
        clock[0] += 1
        decoded.append(data)
        return np.frombuffer(data, np.uint8).reshape(form.shape)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(payback, "ours", lambda *a, **k: Codec("ours", "", encode, decode))
    monkeypatch.setattr(payback, "compress_many", lambda items, *a, **k: map(encode, items))
    row = payback.fitted("ours", SimpleNamespace(refuses=lambda content: None), items, room)
    assert (len(decoded) - 1, len(row.sizes)) == (few, many)
    assert (row.encoding, row.decoding) == (1, 1)
    assert clock[0] <= max(room, 11) + 5


# --- records --------------------------------------------------------------------------------------------------------------


def records(n=400, seed=0):
    """JSON lines of few values, which depend on one another."""
    draw = np.random.default_rng(seed)
    picked = draw.integers(0, 10, (n, 2))
    return [f'{{"a":"{WORDS[a]}", "b" :{a + b},"c":{{"d":true,"e":[{b}, "x"]}}}}' for a, b in picked.tolist()]


def contents(lines):
    return [Content.of_bytes(line.encode()) for line in lines]


def test_the_columns_of_records_are_what_varies_in_them():
    schema = learned(contents(records()), contents(records(seed=1)))
    assert schema.frame == ('{"a":', ', "b" :', ',"c":{"d":true,"e":[', ', "x"]}}')
    assert schema.categories[0] == tuple(sorted(f'"{word}"' for word in WORDS))
    for line in records(seed=2):
        assert schema.decode([schema.row(line)]) == line + "\n"
    other = records(40)[:36] + ["?"] * 4
    assert learned(contents(records()), contents(other)) is None, "a tenth of them would be text"
    assert learned(contents(lines(400)), contents(lines(90, 5))) is None, "numbers of lines never repeat"
    rows = [f"{a},{b};{a}" for a, b in np.random.default_rng(0).integers(0, 9, (300, 2)).tolist()]
    assert learned(contents(rows), contents(rows)).frame == ("", ",", ";", "")


def test_lists_of_records_are_tables_unless_another_network_is_named():
    assert memory.pair(records(), codec=True, records=True)[0].columns == (10, 19, 10)
    assert not memory.pair(records(), codec=True)[0].columns
    assert not memory.pair(lines(400), codec=True, records=True)[0].columns


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch, at_once):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})


def test_from_lines_to_a_codec_and_on(run, tmp_path):
    (tmp_path / "new.jsonl").write_text("\n".join(lines()) + "\n")
    done = run("fit", "new.jsonl", "-o", "my.model", "--minutes", 0.05, "--device", "cpu")
    assert done.exit_code == 0, done.output
    for words in ("90 texts", "held out", "zstd -22, trained", "english, bundled", "once", "wins", "wrote my.model"):
        assert words in done.output
    (tmp_path / "one.json").write_text(lines(1, 5)[0])
    before = (tmp_path / "one.json").read_bytes()
    assert run("compress", "-m", "my.model", "one.json").exit_code == 0
    assert run("decompress", "-m", "my.model", "one.json.ardm", "-o", "back").exit_code == 0
    assert (tmp_path / "back").read_bytes() == before
    assert "for these sizes add --bare --check 8" in done.output
    assert run("compress", "-m", "my.model", "--bare", "--check", 8, "one.json", "-o", "small").exit_code == 0
    content = Content.of_bytes(before)
    (counted,) = payback.fitted("my.model", registry.coder("my.model"), [content] * payback.FEWEST, 0.0).sizes[:1]
    assert (tmp_path / "small").stat().st_size == counted < (tmp_path / "one.json.ardm").stat().st_size
    model = registry.model("my.model").identity
    assert "my.model exists" in run("fit", "new.jsonl", "-o", "my.model").output
    again = run("fit", "new.jsonl", "-o", "my.model", "--minutes", 0.05, "--resume", "-q")
    assert again.exit_code == 0, again.output
    assert registry.model("my.model").identity == model, "the run was complete"


def test_records_and_rows_go_through_the_model_of_tables(run, tmp_path):
    (tmp_path / "some.jsonl").write_text("\n".join(records()) + "\n")
    np.save(tmp_path / "rows.npy", np.array([[a, b, a + b] for a in range(12) for b in range(12)], np.uint8))
    for source, words in (("some.jsonl", "400 texts"), ("rows.npy", "144 rows")):
        done = run("fit", source, "-o", "my.model", "-f", "--minutes", 0.05, "--device", "cpu")
        assert done.exit_code == 0, done.output
        assert words in done.output
        made = registry.model("my.model")
        assert (made.kind, made.schema is None) == ("table", source == "rows.npy")
        codec = ardm.Codec(made, bare=True, check=8)
        if made.schema:
            items = [line.encode() for line in [*records(20, seed=3), "no record", ""]]
            coded = codec.encode_many(items)
            assert codec.decode_many(coded) == items
            assert max(map(len, coded[:20])) < 12
        else:
            row = np.array([3, 4, 7], np.uint8)
            assert np.array_equal(codec.decode(codec.encode_array(row)), row)


def test_what_is_refused_in_one_line_and_leaves_nothing(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "few.txt").write_text("\n".join(lines(9)))
    (tmp_path / "same.txt").write_text("one line\n" * 60)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.log").write_text("\n".join(lines(60)))
    Image.new("RGB", (8, 8)).save(tmp_path / "mixed" / "b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    np.save(tmp_path / "wide.npy", np.zeros((60, 3), np.int64))
    before = sorted(tmp_path.rglob("*"))
    for source, words in {
        "empty": "no files", "none": "cannot read none", "few.txt": "9 items are too few", "same.txt": "nothing can be measured",
        "mixed": "items of one kind; there are 60 texts, 1 pictures", "a.jpg": "already compressed", "wide.npy": "save it as uint8",
    }.items():  # fmt: skip
        done = run("fit", source, "-o", "my.model")
        assert done.exit_code == 1
        assert words in done.output
        assert done.output.count("\n") == 1
    assert "no run" in run("fit", "few.txt", "-o", "my.model", "--resume").output
    assert "is a folder, and the model is one file" in run("fit", "few.txt", "-o", ".").output
    (tmp_path / "my.model.run").mkdir()
    (tmp_path / "my.model.run" / "recipe.yaml").touch()
    for source, device in (("none", "cpu"), ("same.txt", "cpu"), ("mixed/a.log", "abacus")):
        done = run("fit", source, "-o", "my.model", "-f", "--device", device)
        assert done.exit_code == 1
        assert (tmp_path / "my.model.run" / "recipe.yaml").is_file(), (
            "an earlier run outlives wrong samples and options"
        )
    rmtree(tmp_path / "my.model.run")
    with pytest.raises(ArdmError, match="unknown kind of item"):
        read([tmp_path / "few.txt"], "word")
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_keeps_the_best_so_far(tmp_path, monkeypatch):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        pytest.skip("whoever started this, nohup for one, has it ignored")
    original = fitting._run

    def press(trainer, show, kept):
        original(trainer, lambda step: step.step == 3 and os.kill(os.getpid(), signal.SIGINT), kept)

    monkeypatch.setattr(fitting, "_run", press)
    sizes = {"steps": 50, "batch": 8, "width": 8, "blocks": 1, "bits": 4, "progress": False}
    found = ardm.fit(lines(), codec=True, interrupt="keep", folder=tmp_path, **sizes)
    assert found.card["steps"] == 3
    data = ardm.compress(lines(1)[0].encode(), model=found)
    assert ardm.decompress(data, model=found) == lines(1)[0].encode()
    assert torch.equal(
        ardm.load(tmp_path / "model").model.state_dict()["head.out.weight"], found.model.state_dict()["head.out.weight"]
    )


def test_other_samples_are_refused_as_such(tmp_path):
    """Though settings follow from them, such as the size of tables."""
    sizes = {"codec": True, "steps": 1, "batch": 8, "width": 8, "blocks": 1, "progress": False, "folder": tmp_path}
    ardm.fit(lines(), bits=4, **sizes)
    with pytest.raises(ArdmError, match=r"items of data\.train are not those .* began with"):
        ardm.fit(lines()[:60], bits=5, **sizes)
