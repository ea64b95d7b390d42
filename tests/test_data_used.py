"""Which files of a folder are read and how that is reported, byte-order marks, and samples on the screen."""

import json
import wave

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ardm import data
from ardm.cli import generate as cli_generate
from ardm.cli.app import app
from ardm.codec.table_layout import bare, pieces
from ardm.schema import Schema, learn


def picture(path):
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(path)


def text(path):
    path.write_text("some words " * 40)


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.arange(600, dtype="<i2").tobytes())


def table(path):
    path.write_text("kind,size\na,1\nb,2\n" * 1 + "a,2\n" * 20)


def array(path):
    np.save(path, np.arange(12).reshape(6, 2) % 3)


KINDS = {
    "images": (picture, ("a.png", "in/b.bmp"), "images", {}),
    "text": (text, ("README.md", "in/b.txt"), "texts", {"length": 16}),
    "text by split": (text, ("train.txt", "valid.txt"), "texts", {"length": 16}),
    "sounds": (sound, ("a.wav", "in/b.wav"), "sounds", {"length": 16}),
    "table": (table, ("a.csv",), "tables", {}),
    "array": (array, ("train.npy", "valid.npy"), "arrays", {}),
}


def make(kind, root):
    write, names, noun, options = KINDS[kind]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name)
    return names, noun, options


def read(kind, root, options, split=None):
    return data.load(kind.partition(" ")[0], root, split, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_says_which_files_it_is_read_from_and_how_many_it_passes_over(kind, tmp_path):
    names, noun, options = make(kind, tmp_path)
    split = "train" if kind == "array" else None
    used = names[:1] if kind == "array" else names
    alone = read(kind, tmp_path, options, split)
    assert alone.files.used == used
    assert f"{len(used)} of {len(names)} {noun} in {tmp_path}: {', '.join(used)}; no other files" in alone.about
    (tmp_path / "lib").mkdir()
    for n in range(12):
        (tmp_path / "lib" / f"{n}.py").write_text("pass\n")
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden, and not counted")
    beside = read(kind, tmp_path, options, split)
    assert beside.fingerprint == alone.fingerprint
    assert beside.files.unused == {".py": 12, "": 1}
    assert "; 13 other files are not used (12 .py, 1 without ending)" in beside.about
    assert beside.about.startswith(f"{len(beside):,} items of ")


@pytest.mark.parametrize("kind", ["text", "table", "array"])
def test_a_file_by_itself_is_named(kind, tmp_path):
    names, _, options = make(kind, tmp_path)
    found = read(kind, tmp_path / names[0], options)
    assert found.files.used == (names[0],)
    assert not found.files.unused


def test_a_split_tells_its_share_of_all_files(tmp_path):
    for n in range(120):
        picture(tmp_path / f"{n}.png")
    parts = [data.load("images", tmp_path, split) for split in ("train", "valid", "test")]
    assert [part.files.kind for part in parts] == [120] * 3
    assert sum(len(part.files.used) for part in parts) == 120
    assert f"{len(parts[0])} of 120 images in {tmp_path}: 0.png, " in parts[0].about
    assert ", …; no other files" in parts[0].about


def test_texts_that_a_split_file_shuts_out_are_counted(tmp_path):
    for name in ("train.txt", "valid.txt", "more.txt", "notes.md"):
        text(tmp_path / name)
    found = data.load("text", tmp_path, "train", length=16)
    assert found.files.used == ("train.txt",)
    assert found.files.unused == {".txt": 1, ".md": 1}


def test_the_commands_tell_it(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    text(folder / "README.md")
    for n in range(3):
        (folder / f"{n}.py").write_text("pass\n")
    small = ["model.width=8", "model.blocks=1", "model.bits=4", "model.row=4", "order.calls=[16]", "data.length=16"]
    quick = ["train.steps=1", "train.batch=2", "train.valid_items=1", f"data.folder={folder}"]
    run = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "laptop/text", *small, *quick, "-o", str(run), "--cpu"])
    assert result.exit_code == 0, result.output
    line = f"1 of 1 texts in {folder}: README.md; 3 other files are not used (3 .py)"
    assert f"data.train: {(440 * 9 // 10 - 16) // 4 + 1} items of 16, {line}" in result.output
    assert f"data.valid: 1 item of 16, {line}" in result.output
    assert line in (run / "train.log").read_text()
    result = CliRunner().invoke(app, ["eval", str(run / "model"), "--items", "1"])
    assert result.exit_code == 0, result.output
    assert line in result.stderr
    assert line not in result.stdout


# --- marks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", ["kind,size\na,1\nb,2\n", "1,a\n2,b\n", '"x, y",z\na,1\na,2\n'])
def test_a_byte_order_mark_is_no_part_of_a_table(lines, tmp_path):
    plain, rows = learn(lines)
    assert learn("\ufeff" + lines) == (plain, rows)
    assert plain.encode("\ufeff" + lines) == plain.encode(lines) == rows
    (tmp_path / "t.csv").write_text(lines, encoding="utf-8-sig")
    found = data.load("table", tmp_path / "t.csv")
    assert found.schema == plain
    assert found.items.tolist() == rows


def test_a_file_with_a_mark_comes_back_byte_for_byte():
    schema = Schema(("kind", "size"), (("a", "b"), ("1", "2")))
    content = "\ufeffkind,size\na,1\nb,2\n".encode()
    ((plain, rows),) = pieces(bare(schema), content)
    assert plain + bare(schema).decode(rows).encode() == content


# --- samples on the screen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [1, 5, 16, 40])
@pytest.mark.parametrize("kind", ["table", "text", "array"])
def test_samples_are_shown_as_many_as_were_asked(kind, items, tmp_path, capsys):
    values = np.full((items, 2), 97)
    schema = Schema(("left", "right"), (tuple(map(str, range(100))),) * 2) if kind == "table" else None
    ending = {"table": "csv", "text": "txt", "array": "npy"}[kind]
    cli_generate._write(kind, values, tmp_path / f"s.{ending}", b"", schema, 0, False)
    *shown, last = capsys.readouterr().out.splitlines()
    assert last.startswith("wrote ")
    lines = items + (kind == "table")  # its header
    most = cli_generate.SHOWN
    if lines <= most:
        assert len(shown) == lines
    else:
        assert shown[most:] == [f"… {lines - most} more"]


def test_a_log_of_a_run_tells_the_data_too(tmp_path):
    array(tmp_path / "train.npy")
    array(tmp_path / "valid.npy")
    recipe = {"name": "t", "model": {"preset": "table", "width": 8, "blocks": 1}}
    recipe |= {"data": {"name": "array", "folder": str(tmp_path), "train": "train"}, "train": {"steps": 1, "batch": 2}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    done = CliRunner().invoke(app, ["train", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run"), "--cpu", "-q"])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    log = (tmp_path / "run" / "train.log").read_text()
    assert "# data.train: 6 items of 2, 1 of 2 arrays in" in log
    assert "1 other file is not used (1 .yaml)" in log
