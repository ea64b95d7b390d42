"""`ardm bench`: correct figures, no item measured that was trained on, a reason for every gap; and its plot."""

import importlib.util
import io
import json
import math
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from ardm import data
from ardm.bench import compare as bench
from ardm.bench.codec import Absent, Codec
from ardm.bench.compare import Comparison, Row
from ardm.bench.machine import forget_peak
from ardm.cli import bench as cli_bench
from ardm.cli import console
from ardm.codec import archive as archives
from ardm.codec import encode as encoding
from ardm.codec import sampling
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.exact.model import NAME, fingerprint
from ardm.exact.reference import Reference
from contents import Small
from test_baselines import image, text
from waves import wave_model, wave_program

app = typer.Typer(add_completion=False)
cli_bench.register(app)
app.command()(lambda: None)  # with a second command the first has to be named, as in the whole program

RAW, PNG = "raw LZMA", "PNG"


@pytest.fixture
def ardm(tmp_path, monkeypatch, at_once):
    """The command, run in a folder of its own, with a small model that takes as many calls as its level says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "coder", lambda self, content: Small(calls=self.level))
    return lambda *arguments: CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "400"})


def save(name, content):
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    if content.kind == Kind.IMAGE:
        Image.fromarray(content.samples.transpose(1, 2, 0).copy()).save(path)
    else:
        path.write_bytes(content.samples.tobytes())
    return content


def record(ardm, *arguments):
    result = ardm(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return found, {row["name"]: row for row in found["rows"]}


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_files(ardm):
    items = [save(f"{i}.png", image(seed=i)) for i in range(3)]
    found, rows = record(ardm, "0.png", "1.png", "2.png", "--levels", "2,7")
    assert (found["kind"], found["items"], found["samples"]) == ("image", 3, sum(i.samples.size for i in items))
    for level in (2, 7):
        own = rows[f"ardm -{level}"]
        bare = [Content(Kind.IMAGE, item.samples) for item in items]
        assert own["sizes"] == [len(encoding.compress(item, Small(calls=level))[0]) for item in bare]
        assert own["calls"] == level
        assert own["ours"]
        assert "ardm" in own["version"]
    assert rows[PNG]["sizes"] == [len(_png(item)) for item in items]
    for row in found["rows"]:
        if "why" in row:
            continue
        assert row["bytes"] == sum(row["sizes"])
        assert row["bits_per_sample"] == pytest.approx(8 * row["bytes"] / found["samples"])
        assert 0 < row["headerless_bits_per_sample"] <= row["bits_per_sample"]
        assert row["standard_error"] >= 0
        assert row["encoding"] > 0
        assert row["decoding"] > 0
        assert row["together"] is None
        assert row["shared"] == 0
    best = min((row for row in found["rows"] if "bytes" in row and not row["ours"]), key=lambda row: row["bytes"])
    assert found["best_classical"] == best["name"]
    assert best["to_best_classical"] == 1
    assert found["machine"]["threads"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])


def _png(item):
    buffer = io.BytesIO()
    Image.fromarray(item.samples.transpose(1, 2, 0).copy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def test_all_nine_levels(ardm):
    save("0.bin", text())
    for told in ("all", "1-9", "4,2-9,1"):
        _, rows = record(ardm, "0.bin", "--levels", told)
        assert [name for name in rows if name.startswith("ardm")] == [f"ardm -{level}" for level in range(1, 10)]
    _, rows = record(ardm, "0.bin", "--levels", "none")
    assert not any(name.startswith("ardm") for name in rows)


def test_without_a_model_that_fits(ardm, monkeypatch):
    save("0.bin", text(300))
    for coder, why in ((None, "no model codes this kind"), (Small(refuse="it is too dull"), "it is too dull")):
        monkeypatch.setattr(Engine, "coder", lambda self, content, coder=coder: coder)
        result = ardm("0.bin", "--json")
        assert why in result.stderr
        own = [row for row in json.loads(result.stdout)["rows"] if row["ours"]]
        assert [row["name"] for row in own] == ["ardm, no model"]
        assert own[0]["sizes"] == [len(encoding.compress(text(300))[0])]


def test_all_in_one_file(ardm):
    items = [save(f"{i}.png", image(seed=i)) for i in range(4)]
    found, rows = record(ardm, ".", "--levels", "3", "--items")
    archive, _ = archives.compress_archive([Content(Kind.IMAGE, i.samples) for i in items], coder=Small(calls=3))
    own = rows["ardm -3"]["together"]
    assert own["bytes"] == len(archive)
    assert own["bits_per_sample"] == pytest.approx(8 * len(archive) / found["samples"])
    assert min(own["encoding"], own["decoding"]) > 0
    assert rows[PNG]["together"]["bytes"] < rows[PNG]["bytes"]
    heads = ardm(".", "--levels", "3", "--items").stdout.splitlines()[2].split()
    assert heads[-5:] == ["all", "in", "one", "encode", "decode"]


def test_arrays_are_many_items(ardm):
    items = np.stack([image(seed=s).samples for s in range(3)])
    np.save("x.npy", items)
    found, rows = record(ardm, "x.npy", "--levels", "none")
    assert (found["kind"], found["items"]) == ("array", 3)
    assert rows[PNG]["sizes"] == [len(_png(Content(Kind.IMAGE, x))) for x in items]


def test_what_is_shared_stands_beside(ardm):
    pytest.importorskip("pyppmd")
    pytest.importorskip("zstandard")
    for i in range(40):
        save(f"all/{i:02}.bin", text(seed=i))
    _, rows = record(ardm, "all", "--levels", "1", "--split")
    prime = sum(text(seed=i).raw_bytes for i in range(1, 40, 2))
    assert rows["PPMd, primed"]["shared"] == rows["zstd -22, prefixed"]["shared"] == prime
    assert rows["PPMd"]["shared"] == 0
    lines = ardm("all", "--levels", "1", "--split").stdout.splitlines()
    assert "shared data" in lines[2]
    assert cli_bench.SHARED in lines
    from bundles import coder

    made = coder()
    assert bench.ours("x", made).shared == sum(t.nbytes for t in made.model.program.tensors.values())


def test_what_is_taken_for_a_picture_and_is_none(ardm):
    Path("0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 5)
    found, _ = record(ardm, "0.png", "--levels", "none")
    assert found["kind"] == "bytes"


def test_training_on_other_files_only(ardm):
    save("one.bin", text(seed=0))
    for i in range(6):
        save(f"others/{i}.bin", text(seed=i))  # the first is the one that is measured
    save("others/.hidden", text(seed=99))
    save("others/picture.png", image())
    result = ardm("one.bin", "--levels", "none", "--train", "others")
    assert "1 of the 6 to train on are also measured, and left out" in result.stderr
    seen = []
    original = cli_bench.classical
    cli_bench.classical = lambda items, training, threads: seen.extend(training) or original(items, [], threads)
    try:
        assert ardm("one.bin", "--levels", "none", "--train", "others").exit_code == 0
    finally:
        cli_bench.classical = original
    assert [t.samples.tobytes() for t in seen] == [text(seed=i).samples.tobytes() for i in range(1, 6)]


def test_splitting_cutting_and_counting(ardm, monkeypatch):
    seen = {}
    monkeypatch.setattr(cli_bench, "classical", lambda items, training, threads: seen.update(i=items, t=training) or [])
    whole = save("all.bin", text(80)).samples.tobytes()
    assert ardm("all.bin", "--cut", "50", "--split").exit_code == 0
    measured, training = ([c.samples.tobytes() for c in seen[key]] for key in "it")
    assert measured == [whole[s : s + 50] for s in range(0, len(whole), 100)]
    assert training == [whole[s : s + 50] for s in range(50, len(whole), 100)]
    assert ardm("all.bin", "--cut", "50", "--number", "2").exit_code == 0
    assert [c.samples.tobytes() for c in seen["i"]] == [whole[:50], whole[50:100]]
    assert seen["t"] == []


# --- what is printed --------------------------------------------------------------------------------------------------


def test_a_table(ardm):
    save("0.png", image())
    result = ardm("0.png", "--levels", "1,5")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "1 image, 324 samples, 324 bytes raw, each a file of its own"
    for head in ("bytes", "bits/sample", "headerless", "to best classical", "encode", "decode", "peak memory"):
        assert head in lines[2]
    assert lines[3].startswith("ardm -1 (1 calls)")
    assert any(re.match(r"PNG +\d+ +\d+\.\d{4} +\d+\.\d{4} +\d\.\d{3} ", line) for line in lines)
    if find_spec("zstandard"):
        assert any("needs other files to train on: --train FOLDER or --split" in line for line in lines)
    assert "Pillow" in lines[-1]
    assert result.stderr == ""


def test_markdown(ardm):
    save("0.png", image())
    lines = ardm("0.png", "--levels", "1", "--markdown").stdout.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[1] == "| --- |" + " ---: |" * 7
    assert {line.count("|") for line in table} == {9}


def test_on_a_terminal(ardm, monkeypatch):
    screen = io.StringIO()
    for module in (cli_bench, console):
        monkeypatch.setattr(module, "console", Console(file=screen, force_terminal=True, width=160))
    monkeypatch.setitem(sys.modules, "brotli", None)
    save("0.png", image())
    assert ardm("0.png", "--levels", "1").exit_code == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
    assert "not installed (pip install brotli)" in shown  # and not taken for a style
    assert re.search(r"ardm -1 \(1 calls\) +\d+", shown)


def test_a_missing_library_is_a_row(ardm, monkeypatch):
    for module in ("brotli", "zstandard", "oxipng", "imagecodecs"):
        monkeypatch.setitem(sys.modules, module, None)
    save("0.png", image())
    _, rows = record(ardm, "0.png", "--levels", "1")
    for name, package in [
        ("brotli -11", "brotli"),
        ("zstd -22", "zstandard"),
        ("zstd -22, trained", "zstandard"),
        ("oxipng", "pyoxipng"),
        ("JPEG XL e9", "imagecodecs"),
    ]:
        assert rows[name]["why"] == f"not installed (pip install {package})"
    assert rows[PNG]["bytes"]


def test_a_codec_that_lies_is_no_winner(ardm, monkeypatch):
    def nothing(content):
        return b""

    def zeros(data, form):
        return np.zeros(form.shape, form.dtype)

    monkeypatch.setattr(
        cli_bench, "classical", lambda *a: [Codec("liar", "1", nothing, zeros), Absent("ghost", "gone")]
    )
    save("0.bin", text())
    result = ardm("0.bin", "--levels", "1", "--json")
    assert result.exit_code == 1
    assert result.stderr == "ardm: failed, and not measured: liar\n"
    found = json.loads(result.stdout)
    assert found["best_classical"] is None
    assert "decodes different samples" in found["rows"][1]["why"]
    assert found["rows"][0]["to_best_classical"] is None


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", ["0", "10", "1,x", "", "9-1", "1-10", "-1"])
def test_levels_that_are_none(ardm, levels):
    save("0.bin", text())
    result = ardm("0.bin", f"--levels={levels}")
    assert result.exit_code == 2
    assert "levels are numbers from 1 to 9" in re.sub(r"[\s│]+", " ", result.stderr)


def test_errors_are_one_line(ardm, tmp_path):
    save("0.bin", text())
    save("0.png", image())
    (tmp_path / "empty").mkdir()
    for arguments, told in [
        (["nothing.png"], "ardm: there is no file nothing.png\n"),
        (["empty"], "ardm: there is nothing to measure in empty\n"),
        (["0.bin", "0.png"], "ardm: measure files of one kind at a time; got 1 of kind bytes, 1 of kind image"),
        (["0.bin", "--model", "nowhere"], "ardm: there is no codec model 'nowhere'"),
        (["0.bin", "--train", "nowhere"], "ardm: there is no folder nowhere to train on\n"),
        (
            ["0.bin", "--picture", "x.gif"],
            "ardm: x.gif: results need a name that ends in .png, .svg, .pdf, .json or .md\n",
        ),
        (["0.bin", "--picture", "no/x.png"], "ardm: there is no folder no\n"),
    ]:
        result = ardm(*arguments)
        assert (result.exit_code, result.stdout) == (4 if "--model" in arguments else 1, ""), arguments
        assert result.stderr.startswith(told), result.stderr
        assert result.stderr.count("\n") == 1
    assert ardm("0.bin", "--split", "--train", ".").exit_code == 2


# --- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture(ardm, ending):
    save("0.png", image())
    name = f"out.{ending}"
    result = ardm("0.png", "--levels", "1,2,3", "--picture", name)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"ardm: note: wrote {name}\n"
    start = Path(name).read_bytes()[:4]
    assert start == (b"\x89PNG" if ending == "png" else b"<?xm")
    result = ardm("0.png", "--levels", "1", "--picture", name)
    assert result.exit_code == 1
    assert result.stdout == ""  # refused before the work
    assert ardm("0.png", "--levels", "1", "--picture", name, "--force").exit_code == 0


def test_labels_lie_on_nothing(tmp_path, monkeypatch):
    """No label lies on a point, on another label, or outside its panel."""
    from ardm.bench import plot as rateplot

    boxes = []
    free = rateplot._free

    def spy(x, y, width, inside, taken):
        dx, dy = free(x, y, width, inside, taken)
        box = rateplot._box(x + dx, y + dy, width)
        boxes.append((box, list(taken), inside))
        return dx, dy

    monkeypatch.setattr(rateplot, "_free", spy)
    items = [image()]
    rows = [Row(f"ardm -{i}", "", True, i, (300 - 20 * i,), 0, 0.1 * 2**i, 0.1 * 2**i) for i in range(1, 10)]
    rows += [Row(f"codec {i}", "", False, 0, (250 + i % 3,), 0, 1e-3 * (1 + i % 2), 1e-3) for i in range(8)]
    rateplot.draw(Comparison(items, rows, {}), tmp_path / "x.png")
    assert len(boxes) == 2 * len(rows)
    for box, taken, inside in boxes:
        assert inside[0] <= box[0]
        assert box[2] <= inside[1]
        for t in taken:
            assert not (box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3])


def script(name):
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    if not path.is_file():
        pytest.skip("needs the checkout")
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def drawn(model, size, count):
    """Pictures that a model likes, as a data set."""
    return data.Dataset(torch.from_numpy(sampling.sample(model, count, size, seed=1).astype("u1")), 256, model.name)


def saved(folder, channels, name):
    """A tiny model along wavefronts in a folder."""
    model = wave_model(wave_program(channels, C=channels, width=3, inner=2, blocks=1, hidden=3), name=name)
    model = replace(model, golden=fingerprint(model, Reference(model.program)))
    (folder / name).mkdir()
    model.save(folder / name / NAME)
    return model


def test_the_script_behind_the_readmes_figures(tmp_path, monkeypatch, capsys, at_once):
    measured, plots = script("codec_pictures"), []
    monkeypatch.setattr(
        measured, "draw", lambda compared, path: plots.append(path.name)
    )  # above, and by the next script
    colours, grey = saved(tmp_path, 3, "tiny"), saved(tmp_path, 1, "grey")
    sets = {"cifar10": drawn(colours, (8, 8), 4), "mnist": drawn(grey, (7, 7), 4)}
    monkeypatch.setattr(data, "load", lambda name, folder, split: sets[name])
    photo = tmp_path / "photo.png"
    Image.fromarray(np.asarray(sets["cifar10"].items[0]).transpose(1, 2, 0)).save(photo)
    options = ["--photos", str(photo), "--models", str(tmp_path / "tiny"), "--grey", str(tmp_path / "grey")]
    options += ["--backends", "numpy,nonsense", "--out", str(tmp_path), "--quick"]
    measured.main(["--data", "there", *options])
    found = json.loads((tmp_path / "codec-pictures.json").read_text())
    assert {"date", "machine", "versions", "command", "models", "cifar10", "mnist", "photos"} < set(found)
    for name, models in (("cifar10", ["tiny"]), ("mnist", ["grey", "tiny"])):
        rows = {row["name"]: row for row in found[name]}
        for model in models:
            assert 0 < rows[model]["headerless"] < rows[model]["files"]
            assert 0 < rows[model]["overhead_bytes"] < 16
        record = json.loads((tmp_path / ("rate.json" if name == "cifar10" else "rate-mnist.json")).read_text())
        assert [row["name"] for row in record["rows"] if row["ours"]] == models
    assert found["photos"]["pictures"] == ["photo.png"]
    ran, not_ran = found["speed"]
    assert ran["model"] == "tiny"
    assert ran["tile"]["decode"]["cpu"] > 0
    assert "nonsense" in not_ran["why"]
    assert plots == ["rate.png", "rate-mnist.png"]
    assert "## Photographs at full size" in capsys.readouterr().out


def test_the_script_for_text_and_sound(tmp_path, monkeypatch, capsys, at_once):
    compared = script("codec_rate")
    pictures = [image(seed=s) for s in range(7)]
    monkeypatch.setattr(
        compared, "contents", lambda name, folder, split, n: pictures[:3] if split == "test" else pictures
    )
    monkeypatch.setattr(Engine, "coder", lambda self, content: Small(calls=self.level))
    compared.main(["--data", "there", "--items", "3", "--training", "4", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "rate-english.json").read_text())
    assert found["items"] == 3
    assert found["data"] == "English text, 3 test items of 256 bytes"
    assert [row["name"] for row in found["rows"] if row["ours"]] == [f"ardm -{level}" for level in range(1, 10)]
    assert "| ardm -9 (9 calls) |" in capsys.readouterr().out


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_durations():
    told = {12.3456: "12.3 s", 4321.0: "4321 s", 0.25: "250 ms", 0.0012: "1.2 ms", 3e-5: "30 µs", 0.99999: "1000 ms"}
    assert {time: bench.seconds(time) for time in told} == told


def test_the_standard_error_is_that_of_the_mean_over_items():
    items = [image(seed=s) for s in range(3)]
    compared = Comparison(items, [], {})
    rates = 8 * np.array([100, 120, 170]) / 324
    assert compared.error(Row("x", sizes=(100, 120, 170))) == pytest.approx(rates.std(ddof=1) / 3**0.5)
    assert math.isnan(Comparison(items[:1], [], {}).error(Row("x", sizes=(1,))))


def test_the_title_counts():
    assert Comparison([text(), text()], [], {}).title.startswith("2 items, ")
    assert Comparison([image()], [], {}).title.startswith("1 image, ")


@pytest.mark.skipif(not forget_peak(), reason="this system cannot tell")
def test_peak_memory_is_that_of_the_row():
    def hungry(size):
        def encode(content):
            return bytes(np.ones(size, np.uint8)[:5])

        return Codec(f"hungry {size}", "1", encode, lambda data, form: item.samples)

    item = text()
    large, small = (bench.measure(hungry(size), [item]).peak for size in (200 << 20, 1))
    assert large - small > 150 << 20


def test_our_own_decoder_asks_for_its_own_model():
    own, other = bench.ours("x", Small(name="one")), bench.ours("y", Small(name="other"))
    row = bench.measure(own, [image()], own=True)
    assert row.measured
    drawn = np.random.default_rng(0).geometric(1 - 2 ** (-1 / 8), (3, 24, 24)) - 1  # what the model likes
    item = Content(Kind.IMAGE, drawn.clip(0, 255).astype(np.uint8))
    with pytest.raises(bench.ModelMissing):
        other.decode(own.encode(item), bench.Form.of(item))


def test_results_are_written_as_the_ending_says(ardm):
    Path("x.bin").write_bytes(bytes(range(256)) * 8)
    for ending in ("json", "md", "png"):
        result = ardm("x.bin", "--levels", "none", "--out", f"r.{ending}")
        assert result.exit_code == 0, result.output
        assert f"wrote r.{ending}" in result.stderr
    assert len(json.loads(Path("r.json").read_text())["rows"]) > 1
    assert Path("r.md").read_text().startswith("| ")
    assert Path("r.png").read_bytes().startswith(b"\x89PNG")
    assert "exists" in ardm("x.bin", "--levels", "none", "--out", "r.json").stderr
