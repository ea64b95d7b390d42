"""`ardm.fit`: data in memory, keywords of recipes, resuming, codec models; what it refuses, and how it says so."""

import io
import json
import os
import shutil
import signal
import threading
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

import ardm
from ardm import data
from ardm.data import memory
from ardm.data.folders import in_split
from ardm.data.samples import text_keys
from ardm.errors import ArdmError
from ardm.settings import from_values
from ardm.train import fit as fitting
from ardm.train import keywords
from ardm.train.stopping import stopping
from ardm.train.trainer import Trainer

QUICK = {"steps": 6, "batch": 8, "width": 16, "blocks": 1, "valid_every": 3, "valid_items": 4, "progress": False}
TEXT = {**QUICK, "preset": "text-tiny"}


def counting(n=60, seed=0):
    """(n, 8) sequences that count 0 1 … 5 0 1 …, from anywhere: one symbol determines all others."""
    start = torch.randint(0, 6, (n, 1), generator=torch.Generator().manual_seed(seed))
    return (start + torch.arange(8)) % 6


def pictures(n=40, channels=1, most=255):
    x = torch.randint(0, most + 1, (n, channels, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    x[:, 0, 0, 0] = most
    return x


class Pairs(Dataset):
    """A map-style data set of (item, label), as torchvision has them."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, n):
        return self.x[n], int(self.y[n])


# --- training -------------------------------------------------------------------------------------------------------------


def test_it_learns_what_determines_the_rest():
    """log2 6 bits for the first symbol of 8 and none for the others: 0.32 bits/dim; independent symbols cost 2.58."""
    found = ardm.fit(counting(200), preset="text-tiny", steps=300, rate=1e-2, batch=32, progress=False)
    bits = ardm.score(found, counting(50, seed=1), passes=8).bits_per_dim
    assert np.log2(6) / 8 - 0.05 < bits < 1.0
    assert ardm.sample(found, 3).shape == (3, 8)


def test_it_is_the_trainer_with_sets_in_memory(tmp_path):
    x = counting()
    found = ardm.fit(x, **TEXT)
    recipe = from_values(ardm.Recipe, found.card["recipe"])
    trainer = Trainer(recipe, tmp_path, sets=memory.pair(x))
    list(trainer)
    assert trainer.best_bundle().identity == found.identity == ardm.load(tmp_path / "model").identity


def test_the_global_state_has_no_influence():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = ardm.fit(counting(), **TEXT).identity
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert ardm.fit(counting(), **TEXT).identity == first
    assert ardm.fit(counting(), **TEXT, seed=1).identity != first


def test_the_same_call_resumes_as_if_nothing_had_happened(tmp_path):
    x, whole = counting(), {**TEXT, "save_every": 2}
    straight = ardm.fit(x, **whole)
    ardm.fit(x, **{**whole, "steps": 4, "decay": "constant"}, folder=tmp_path / "a")
    with pytest.raises(ArdmError, match=r"began with train.decay=constant \(not cosine\)"):
        ardm.fit(x, **whole, folder=tmp_path / "a")
    trainer = Trainer(from_values(ardm.Recipe, straight.card["recipe"]), tmp_path / "b", sets=memory.pair(x))
    for step in trainer:
        if step.step == 4:
            trainer.save()
            break
    resumed = ardm.fit(x, **whole, folder=tmp_path / "b")
    assert resumed.identity == straight.identity
    again = ardm.fit(x, **whole, folder=tmp_path / "b")
    assert again.identity == straight.identity
    assert (again.name, straight.name) == ("b", "unnamed")
    lines = [json.loads(line)["step"] for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [6]


def test_a_longer_call_goes_on(tmp_path):
    ardm.fit(counting(), **TEXT, folder=tmp_path)
    assert ardm.fit(counting(), **{**TEXT, "steps": 9}, folder=tmp_path).card["recipe"]["train"]["steps"] == 9
    with pytest.raises(ArdmError, match=r"step 9 already, beyond train.steps=6"):
        ardm.fit(counting(), **TEXT, folder=tmp_path)


def test_other_data_are_another_run(tmp_path):
    ardm.fit(counting(), **TEXT, folder=tmp_path)
    with pytest.raises(ArdmError, match=r"data.train are not those"):
        ardm.fit(counting(seed=1), **TEXT, folder=tmp_path)


def test_minutes_in_place_of_steps():
    found = ardm.fit(counting(), **{**TEXT, "minutes": 0.002, "steps": 10**6})
    assert 0 < found.card["steps"] < 10**6


@pytest.mark.parametrize("length", [{"steps": 4}, {"minutes": 0.00005}], ids=str)
def test_a_finished_run_says_so_and_trains_on_only_if_it_is_asked_to(tmp_path, length, capfd):
    x, rest = counting(), {k: v for k, v in TEXT.items() if k not in ("steps", "progress")}
    steps = ardm.fit(x, **rest, **length, folder=tmp_path).card["steps"]
    assert "is finished" not in capfd.readouterr().err
    assert ardm.fit(x, **rest, folder=tmp_path).card["steps"] == steps  # not the 3,000 of the defaults
    (name,) = length
    assert f"finished, after {steps} steps" in (said := capfd.readouterr().err)
    assert f"resume it with a larger train.{name}=…" in said
    assert ardm.fit(x, **rest, steps=9, folder=tmp_path).card["recipe"]["train"]["steps"] == 9


def test_ctrl_c_stops_and_the_same_call_resumes(tmp_path, monkeypatch):
    """The first Ctrl-C saves; with the decay of the whole run, what follows equals a run without it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        pytest.skip("whoever started this, nohup for one, has it ignored")
    x, steps = counting(), []

    def run_and_press(trainer, show, kept):
        def press(step):
            steps.append(step.step)
            if step.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

        original(trainer, press, kept)

    original = fitting._run
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "_run", run_and_press)
        with pytest.raises(KeyboardInterrupt, match="step 3; the same call resumes"):
            ardm.fit(x, **TEXT, folder=tmp_path)
    assert steps == [1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ardm.fit(x, **TEXT, folder=tmp_path).identity == ardm.fit(x, **TEXT).identity


def test_a_second_signal_interrupts_and_threads_are_left_alone():
    with stopping(signal.SIGINT) as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    found = []

    def elsewhere():
        with stopping(signal.SIGINT) as asked:
            found.append(asked())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


# --- data in memory -------------------------------------------------------------------------------------------------------


def test_all_containers_hold_the_same_data():
    x = counting(20)
    same = [x, x.numpy(), x.to(torch.int16), list(x), [row.tolist() for row in x], Pairs(x, x[:, 0])]
    assert len({tuple(part.fingerprint for part in memory.pair(given)) for given in same}) == 1
    named = memory.pair(data.Dataset(x.byte(), 6, "mine"))
    assert [p.fingerprint for p in named] == [p.fingerprint for p in memory.pair(x)]
    whole = TensorDataset(x)
    assert {tuple(part.fingerprint for part in memory.pair(given)) for given in (whole, Subset(whole, range(20)))} == {
        tuple(part.fingerprint for part in memory.pair(x))
    }


def test_a_subset_of_pairs_has_only_its_items_and_labels():
    """As `random_split` makes them: the whole data set would bring the test items along."""
    x = counting(30)
    for marks in (x[:, 0], x[:, :1]):
        train, valid = random_split(TensorDataset(x, marks), [20, 10], torch.Generator().manual_seed(0))
        found = memory.pair(train, valid, labels=True)
        assert [len(part) for part in found] == [20, 10]
        assert torch.equal(found[0].items.long(), x[train.indices])
        assert all(torch.equal(part.items[:, 0].long(), part.labels) for part in found)


def test_images_of_pillow_have_their_channels_first():
    grey, colour = Image.new("L", (5, 4), 200), Image.new("RGB", (5, 4), (200, 1, 2))
    assert memory.pair([grey, grey])[0].shape == (1, 4, 5)
    found = memory.pair([(colour, 0), (colour, 1)])[0]
    assert found.items[0, :, 0, 0].tolist() == [200, 1, 2]


def test_the_validation_items_are_held_out_by_a_hash_of_their_numbers():
    x = torch.arange(400)[:, None].expand(400, 3)
    train, valid = memory.pair(x)
    assert valid.items[:, 0].tolist() == [n for n in range(400) if in_split(f"row {n}", "valid")]
    assert sorted([*train.items[:, 0].tolist(), *valid.items[:, 0].tolist()]) == list(range(400))
    longer = memory.pair(torch.arange(500)[:, None].expand(500, 3))[1].items[:, 0].tolist()
    assert longer[: len(valid)] == valid.items[:, 0].tolist()
    assert [len(part) for part in memory.pair(x[:2])] == [1, 1]


def test_near_duplicates_among_texts_for_a_codec_are_held_out_together():
    """As `ardm fit` does: a network that knows a line by heart would seem to have learned."""
    kinds = [
        f"{word} was seen at the {place} gate"
        for word in ("a fox", "an owl", "one cat")
        for place in ["north", "south", "east", "west"]
    ]
    texts = [kinds[n % 12].upper() if n % 5 else kinds[n % 12] for n in range(240)]
    parts = [
        {text_keys([row.tobytes().rstrip(b"\0")])[0] for row in part.items.numpy()}
        for part in memory.pair(texts, codec=True)
    ]
    assert [len(part) for part in parts] == [10, 2]
    assert not parts[0] & parts[1]
    assert [len(part) for part in memory.pair(["same"] * 4, codec=True)] == [3, 1]


def test_valid_is_taken_as_given_with_one_alphabet():
    train, valid = memory.pair(counting(10), counting(4, seed=2) + 3)
    assert (len(train), len(valid)) == (10, 4)
    assert train.classes == valid.classes == 9


@pytest.mark.parametrize(
    ("x", "classes", "expected", "kind"),
    [
        (counting(), 0, 6, torch.uint8),
        (counting() * 100, 0, 501, torch.int16),
        (pictures(), 0, 256, torch.uint8),
        (pictures(most=100), 0, 256, torch.uint8),
        (pictures(most=1), 0, 2, torch.uint8),
        (pictures(most=100), 101, 101, torch.uint8),
        (torch.zeros(9, 4).long(), 0, 2, torch.uint8),
        (torch.rand(9, 4) < 0.5, 0, 2, torch.uint8),
    ],
)
def test_classes(x, classes, expected, kind):
    found = memory.pair(x, classes=classes)[0]
    assert (found.classes, found.items.dtype) == (expected, kind)


def test_a_table_has_columns_of_their_own():
    x = torch.stack([torch.arange(40) % 2, torch.arange(40) % 7], 1)
    assert memory.pair(x, table=True)[0].columns == (2, 7)
    found = ardm.fit(x, **QUICK, kind="table")
    assert found.config.columns == (2, 7)
    assert found.content == "table"
    assert ardm.fit(x, **QUICK, preset="table").config.columns == (2, 7)


def test_labels_are_context():
    x = counting(60)
    for given, labels in ((x, x[:, 0]), (x, x[:, 0].tolist()), (Pairs(x, x[:, 0]), True)):
        found = ardm.fit(given, **TEXT, labels=labels)
        assert found.config.labels == 6
        assert ardm.sample(found, 2, context=3).shape == (2, 8)
    assert ardm.fit(Pairs(x, x[:, 0]), **TEXT).config.labels == 0  # only on request
    both = memory.pair(x, (counting(6, seed=1), np.arange(6)), labels=x[:, 0])
    assert both[1].labels.tolist() == list(range(6))
    assert memory.pair(x, counting(6), labels=x[:, 0])[1].labels is None


# --- settings -------------------------------------------------------------------------------------------------------------


def test_settings_by_name_full_name_and_section_are_one():
    ways = [
        {"rate": 1e-3, "width": 8, "order": "raster", "calls": [4], "flip": True},
        {"train.rate": 1e-3, "model.width": 8, "order.order": "raster", "order.calls": [4], "data.flip": True},
        {
            "train": {"rate": 1e-3},
            "model": {"width": 8},
            "order": {"order": "raster", "calls": [4]},
            "data": {"flip": True},
        },
    ]
    made = [keywords.recipe_of({**way, "preset": "tiny"}, memory.pair(pictures())[0]) for way in ways]
    assert made[0] == made[1] == made[2]
    assert (made[0].train.rate, made[0].model.width, made[0].order.calls) == (1e-3, 8, (4,))


def test_every_setting_of_a_recipe_can_be_given():
    for section, names in keywords.SECTIONS.items():
        for name in names:
            assert keywords.sections({f"{section}.{name}": 1})[section] == {name: 1}


@pytest.mark.parametrize(
    ("x", "codec", "kind", "preset"),
    [
        (pictures(), False, "", "centred"),
        (pictures(), True, "", "pictures-small"),
        (counting(), False, "", "text-small"),
        (counting(), True, "", "recurrent"),
        (counting() + 65530, False, "", "audio-small"),
        (counting() + 65530, True, "", "lattice"),
        (counting() + 250, False, "audio", "audio-small"),
        (counting(), True, "table", "table"),
    ],
)
def test_the_kind_of_data_decides_the_network(x, codec, kind, preset):
    made = keywords.recipe_of({}, memory.pair(x, table=kind == "table")[0], kind, codec=codec)
    assert made.model.trunk == ardm.preset(preset).trunk
    assert made.train.batch <= len(x)


def test_a_recipe_can_be_the_start():
    found = ardm.fit(counting(), recipe="laptop/table", steps=4, valid_items=8, progress=False)
    assert found.config.trunk == "mlp"
    assert found.card["recipe"]["train"]["weight_decay"] == 1e-2
    assert found.name == "table"


# --- codec models ---------------------------------------------------------------------------------------------------------


def test_a_codec_model_comes_with_it(tmp_path):
    x = pictures() // 64 * 64
    found = ardm.fit(x, **QUICK, codec=True, folder=tmp_path)
    file = ardm.compress(x[0], model=found)
    for model in (found, found.codec, tmp_path / "model"):
        assert ardm.compress(x[0], model=model) == file
        assert torch.equal(ardm.decompress(file, model=model), x[0])
    before = (tmp_path / "model" / "codec.safetensors").stat().st_mtime_ns
    again = ardm.fit(x, **QUICK, codec=True, folder=tmp_path)
    assert again.codec.identity == found.codec.identity
    assert (tmp_path / "model" / "codec.safetensors").stat().st_mtime_ns == before  # read, not made again
    loaded = ardm.load(tmp_path / "model")
    assert ardm.compress(x[0], model=loaded) == file
    other = ardm.fit(x, **QUICK, seed=1).save(tmp_path / "other")
    shutil.copy(tmp_path / "model" / "codec.safetensors", other)
    assert ardm.load(other).codec is None, "it is of other weights"
    found.save(tmp_path / "copy")
    assert ardm.compress(x[0], model=tmp_path / "copy") == file


def test_what_has_no_codec_model_is_refused_before_training():
    with pytest.raises(ArdmError, match=r"codec=True, but .*leave out codec"):
        ardm.fit(counting(), **TEXT, codec=True)
    with pytest.raises(ArdmError, match="holds no codec model"):
        ardm.compress(pictures()[0], model=ardm.fit(pictures(), **QUICK, preset="centred-tiny"))


# --- display --------------------------------------------------------------------------------------------------------------


def test_one_line_where_there_is_no_terminal_and_none_on_request(capfd):
    ardm.fit(counting(), **TEXT)
    assert capfd.readouterr() == ("", "")
    ardm.fit(counting(), **{**TEXT, "progress": True}, name="mine")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("mine: 6 steps in ")
    assert err.count("\n") == 1


def test_a_bar_on_a_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    monkeypatch.setattr(fitting, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    ardm.fit(counting(), **{**TEXT, "progress": True}, name="mine")
    assert "bits/dim" in screen.getvalue()
    assert "6/6" in screen.getvalue()


# --- refusals -------------------------------------------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


REFUSED = {
    "floats": (torch.rand(9, 3, 4, 4), {}, r"got floats in .*: for 8-bit pictures give \(255"),
    "whole floats": (counting().float(), {}, r"must hold whole numbers; got torch.float32"),
    "nan": (torch.full((9, 4), torch.nan), {}, "NaN or infinity: remove"),
    "negative": (counting() - 1, {}, r"values 0..K−1; got -1..4: add an offset"),
    "negative sound": (counting().short() - 9, {}, "for 16-bit sound add 32768"),
    "too large": (counting(), {"classes": 5}, r"0..4, because classes is 5; got 0..5"),
    "no items": (torch.zeros(0, 4).long(), {}, r"holds no values; its shape is \(0, 4\)"),
    "an empty list": ([], {}, "x holds no items"),
    "one item": (counting(1), {}, "at least 2 items.*got 1: give valid="),
    "numbers": (torch.arange(9), {}, r"items \(N, \*shape\); its shape is \(9,\)"),
    "a list of numbers": ([1, 2], {}, "single numbers"),
    "no channels": (pictures()[:, 0], {}, r"x\[:, None\]"),
    "channels last": (pictures(channels=3).permute(0, 2, 3, 1), {}, r"look like \(H, W, C\)"),
    "films": (torch.zeros(4, 2, 3, 4, 4).long(), {}, "no pictures .* and no sequences"),
    "a path": ("notes.txt", {}, r"read files with ardm.data.load"),
    "nothing": (None, {}, "is a NoneType"),
    "a loader": (DataLoader(Pairs(counting(), counting()[:, 0])), {}, r"the data set of the loader \(.dataset\)"),
    "a stream": (Endless(), {}, "__getitem__ and __len__"),
    "dictionaries": ([{"x": 1}, {"x": 2}], {}, "item 0 of x is a dict"),
    "a label for each class": (TensorDataset(counting(), counting()), {}, "item 0 of x is a tuple of 2 arrays"),
    "ragged parts": ([[[1, 2], [1]]], {}, "item 0 of x is a list of parts of different sizes"),
    "half a character": (["a", "b\ud800"] * 5, {}, r"text 1 of x holds '\\ud800' at 1, half a character"),
    "half a character in a codec": (["a", "b\ud800"] * 5, {"codec": True}, r"text 1 of x holds"),
    "channels last for a preset": (
        pictures(channels=3).permute(0, 2, 3, 1),
        {"preset": "centred-tiny"},
        r"look like \(H, W, C\)",
    ),
    "mixed shapes": ([torch.zeros(3, 1).long(), torch.zeros(4, 1).long()], {}, r"item 1 of x .* all must be alike"),
    "some labels": ([(counting()[0], 1), counting()[1]], {}, "1 of the 2 items of x have a label"),
    "grey": (data.Dataset(pictures(), 2, "mnist", grey=True), {}, "binarise them first"),
    "few labels": (counting(), {"labels": [1, 2]}, r"one integer per item of x, 60 in all; got shape \(2,\)"),
    "negative labels": (counting(), {"labels": counting()[:, 0] - 1}, "labels count from 0; got -1"),
    "no labels": (counting(), {"labels": True}, "there are none: give labels=y"),
    "a list without labels to validate with": (
        counting(),
        {"labels": counting()[:, 0], "valid": list(counting(9))},
        r"come with valid, .* give valid=\(items, labels\)",
    ),
    "an alphabet of numbers": (counting(), {"alphabet": "tokens"}, "alphabet is for a list of str, and x is a Tensor"),
    "an alphabet of a codec": (["a", "b"] * 5, {"alphabet": "27", "codec": True}, "leave alphabet out; got '27'"),
    "valid of another shape": (counting(), {"valid": counting()[:, :4]}, r"valid have shape \(4,\)"),
    "another kind": (counting(), {"kind": "pictures"}, "unknown kind 'pictures'"),
    "not pictures": (counting(), {"kind": "image"}, "kind image has 3 axes"),
    "unknown setting": (counting(), {"stpes": 5}, "no setting 'stpes'; did you mean 'steps'"),
    "of other libraries": (counting(), {"lr": 1e-3}, "no setting 'lr'; did you mean 'rate'"),
    "unknown in a section": (counting(), {"train": {"stpes": 5}}, "train.stpes; did you mean 'train.steps'"),
    "twice": (counting(), {"rate": 1e-3, "train": {"rate": 1e-3}}, "train.rate is given twice"),
    "of files": (counting(), {"length": 5}, "data.length is a setting of data in files"),
    "unknown preset": (counting(), {"preset": "text-tony"}, "did you mean 'text-tiny'"),
    "objective": (counting(), {"preset": "text-tiny", "objective": "all"}, "objective 'all' is not for"),
    "samples without a folder": (counting(), {"sample_every": 5}, "give folder="),
    "device": (counting(), {"preset": "text-tiny", "device": "cuda:7"}, "device is 'cuda:7'"),
    "no device": (counting(), {"preset": "text-tiny", "device": "gpu"}, "there is no device 'gpu'"),
    "folder": (counting(), {"folder": 5}, "a str or a Path; got int"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_is_wrong_and_what_to_do(name):
    x, settings, message = REFUSED[name]
    with pytest.raises(ArdmError, match=message):
        ardm.fit(x, **{"progress": False, "steps": 1, **settings})


def test_a_table_of_other_values_is_refused():
    known = data.Dataset(torch.tensor([[0, 4], [1, 3]]), 5, "mine", columns=(2, 5))
    with pytest.raises(ArdmError, match="column 0 has 2 classes; got the value 2"):
        memory.pair(known, data.Dataset(torch.tensor([[2, 0]]), 5, "mine", columns=(2, 5)))


def _csv(path, words):
    path.write_text("word,n\n" + "".join(f"{words[n % len(words)]},{n % 3}\n" for n in range(40)))
    return path


def test_validation_items_whose_values_mean_something_else_are_refused(tmp_path):
    """Each file has its own classes: "red" is 1 here and 0 there, and no value is out of range."""
    one, two = _csv(tmp_path / "one.csv", ["green", "red"]), _csv(tmp_path / "two.csv", ["red", "rose"])
    x = data.load("table", one)
    with pytest.raises(ArdmError, match=r"a schema of its own; load the validation items with schema=x\.schema"):
        memory.pair(x, data.load("table", two))
    two.write_text(one.read_text().replace("\n", "\r\n"))
    assert torch.equal(memory.pair(x, data.load("table", two))[1].items, x.items)
    for n, text in enumerate(("abcab" * 9, "xyzxy" * 9)):
        (tmp_path / f"{n}.txt").write_text(text)
    texts = [data.load("text", tmp_path / f"{n}.txt", length=5, alphabet="characters") for n in range(2)]
    with pytest.raises(ArdmError, match="a symbol of its own"):
        memory.pair(*texts)
    read = data.load("text", tmp_path / "1.txt", length=5, symbols=texts[0].symbols)
    assert memory.pair(texts[0], read)[1].symbols == texts[0].symbols


def test_items_that_overlap_are_never_held_out_from_each_other(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij" * 40)
    windows, apart = (data.load("text", tmp_path / "a.txt", part, length=8) for part in ("train", None))
    with pytest.raises(ArdmError, match=r"overlap.*give valid="):
        memory.pair(windows)
    assert [len(part) for part in memory.pair(windows, apart)] == [len(windows), 50]
    assert sum(len(part) for part in memory.pair(apart)) == 50


@pytest.mark.parametrize(("channels", "length", "split"), [(1, 64, "train"), (1, 64, None), (2, 50, None)])
def test_windows_and_channels_of_a_sound_are_never_held_out_from_each_other(tmp_path, channels, length, split):
    sound = np.zeros((100 * channels,), "<i2").tobytes()
    for name in ("a", "b", "c"):  # of which "train" gets some
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((channels, 2, 8000, 0, "NONE", ""))
            file.writeframes(sound)
    assert data.load("sounds", tmp_path, split, length=length).overlapping
    assert not data.load("sounds", tmp_path, split, length=25, stride=25).overlapping or channels > 1


def test_a_label_that_is_held_out_alone_has_its_row():
    x, held = counting(20), memory.pair(counting(20), labels=torch.arange(20))[1].labels
    labels = torch.zeros(20, dtype=torch.long)
    labels[held] = 3
    assert ardm.fit(x, labels=labels, **TEXT).config.labels == 4


def test_settings_may_be_numbers_of_numpy():
    found = ardm.fit(counting(), **{**TEXT, "steps": np.int64(6), "rate": np.float32(0.5), "flip": np.bool_(False)})
    assert found.card["recipe"]["train"]["steps"] == 6
    assert found.card["recipe"]["train"]["rate"] == 0.5


def test_files_say_that_the_data_were_in_memory(tmp_path):
    found = ardm.fit(counting(), **TEXT, folder=tmp_path)
    source = from_values(ardm.Recipe, found.card["recipe"]).data
    with pytest.raises(ArdmError, match=r"were in memory \(ardm.fit\): name a data set in files"):
        data.of_config(source, "train")
