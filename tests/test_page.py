"""The page in the browser: it decodes what Python writes, writes what Python decodes, and fills as the integers say."""

import base64
import importlib.util
import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ardm.cheapest import cheapest
from ardm.codec import decode, encode, registry
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.binary import Reader, crc8, varint
from ardm.codec.header import read_header
from ardm.content import Content, Kind
from ardm.exact.ask import Ask
from ardm.exact.order import NEVER, Order
from ardm.media.pictures import read_image

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

from make import fingerprint  # noqa: E402

CAT = read_image(ROOT / "src" / "ardm" / "assets" / "demo" / "cat.png").numpy()
SMALL = "pictures-small"
ANY = "cifar10-any-order"


def demo():
    spec = importlib.util.spec_from_file_location("demo_build", ROOT / "docs" / "demo" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = demo()


class Page:
    """The page, opened from a folder."""

    def __init__(self, folder):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(300)
        self.driver.get((folder / "index.html").as_uri())
        self("document.getElementById('decode-slow').checked = false; settle(0)")

    def __call__(self, script, *values):
        """Run a script that calls `settle` with its result; base64 of bytes for values."""
        prelude = (
            "const values = [...arguments], settle = values.pop();"
            "const bytes = (text) => ARDM.fromBase64(text);"
            "const text = (data) => btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(''));"
        )
        given = [base64.b64encode(v).decode() if isinstance(v, bytes) else v for v in values]
        return self.driver.execute_async_script(prelude + script, *given)

    def decode(self, data):
        """The samples (C, H, W) of a file, or the line that refuses it."""
        script = """Decode.decode(bytes(values[0])).then(
            (found) => settle([[found.planes, found.height, found.width], found.size, text(new Uint8Array(found.samples.buffer))]),
            () => settle(document.getElementById('decode-status').textContent))"""
        found = self(script, data)
        if isinstance(found, str):
            return found
        shape, size, samples = found
        return np.frombuffer(base64.b64decode(samples), "<u2").reshape(shape).astype(f"u{size}")

    def encode(self, samples, check=32):
        script = """const [planes, height, width] = values[1];
            Encode.encode({planes, height, width, samples: bytes(values[0]), exact: true}, {check: values[2]})
            .then((file) => settle(text(file)), (error) => settle(error.stack))"""
        return base64.b64decode(self(script, samples.tobytes(), list(samples.shape), check))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    BUILD.build(folder, {**BUILD.MODELS, "waves": GOLDEN / "waves" / "codec.safetensors"})
    return folder


@pytest.fixture(scope="module")
def page(folder):
    there = shutil.which("chromium") and shutil.which("chromedriver") and importlib.util.find_spec("selenium")
    if not there and os.environ.get("ARDM_BROWSER") != "required":
        pytest.skip("needs selenium, chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    page = Page(folder)
    yield page
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    page.driver.quit()


def crop(planes, height, width, y=40, x=30):
    """A piece of a photograph with some planes: grey, alpha of a slope, colour."""
    found = CAT[:, y : y + height, x : x + width]
    alpha = (np.arange(height * width).reshape(1, height, width) // 3).astype("u1")
    parts = {1: [found[:1]], 2: [found[:1], alpha], 3: [found], 4: [found, alpha]}[planes]
    return np.ascontiguousarray(np.concatenate(parts).astype("u1"))


def picture(samples):
    return Content(Kind.IMAGE, samples, "png")


# --- both ways --------------------------------------------------------------------------------------------------------

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 1, 1), (3, 40, 7), (1, 5, 33), (4, 24, 24), (2, 24, 17), (3, 2, 60)]
CODED = [
    *[(registry.pictures(1), 0, shape) for shape in SHAPES],
    *[(registry.pictures(9), 0, shape) for shape in SHAPES[:4]],
    *[("grey", 0, shape) for shape in ((1, 32, 32), (1, 17, 40), (3, 16, 16))],
    *[(ANY, calls, shape) for calls, shape in ((20, (3, 16, 16)), (20, (1, 16, 24)), (7, (3, 9, 33)), (50, (3, 8, 8)))],
    (SMALL, 0, (3, 128, 20)),
]


def coded(model, calls, shape):
    """A file of Python, in which a model codes what it makes shorter."""
    return encode.compress(picture(crop(*shape)), registry.coder(model, calls or None))


def test_the_page_decodes_files_of_python(page):
    assert len(CODED) == 20
    methods = Counter()
    for model, calls, shape in CODED:
        data, report = coded(model, calls, shape)
        methods.update(report.methods)
        found = page.decode(data)
        assert not isinstance(found, str), (model, shape, found)
        assert np.array_equal(found, crop(*shape)), (model, shape)
    assert methods["coded"] >= 16, methods


def odd():
    """Pictures that no model suits: constant, noise, a constant alpha."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 12, 12), np.uint8)
    opaque = np.concatenate([crop(3, 20, 20), np.full((1, 20, 20), 255, "u1")])
    return [np.full((3, 9, 9), 7, "u1"), noise, opaque, np.concatenate([noise, crop(1, 12, 12)])]


def test_python_decodes_files_of_the_page(page):
    given = [(crop(*shape), 32) for shape in [*SHAPES, (3, 64, 50), (1, 50, 64), (3, 31, 31), (1, 1, 9)]]
    given += [(samples, 32) for samples in odd()] + [(crop(3, 20, 20), check) for check in (32, 16, 8, 0)]
    assert len(given) == 20
    coder, alike = registry.coder(SMALL), 0
    for samples, check in given:
        data = page.encode(samples, check)
        content = decode.decompress(data, registry.maker())
        assert np.array_equal(content.samples, samples), samples.shape
        assert content.origin == "png"
        alike += data == encode.compress(picture(samples), coder, check=check)[0]
    assert alike >= 10, "where both code all of a picture by the model, they write the same bytes"


def images():
    """The golden files of pictures that need no model but those of the page and the one along wavefronts."""
    index = json.loads((GOLDEN / "golden.json").read_text())
    stored = ["filtered", "16", "1x1", "flat", "regions"]
    names = [f"good-image-{name}" for name in stored] + [f"good-wave-{name}" for name in ("square", "grey", "about")]
    return {name: index[name]["contents"] for name in names}


def test_golden_files(page):
    for name, fingerprints in images().items():
        data = (GOLDEN / f"{name}.ardm").read_bytes()
        found = page.decode(data)
        content = decode.decompress(data, lambda short, steps: registry.coder(GOLDEN / "waves"))
        assert [fingerprint(content)] == fingerprints
        assert np.array_equal(found, content.samples), name


# --- archives ---------------------------------------------------------------------------------------------------------


def packed(items, names=None, model=SMALL, check=32):
    return compress_archive(items, names, registry.coder(model, 20 if model == ANY else None), check=check)[0]


def listed(page):
    """The rows of the list of items: name and what it is."""
    script = """settle([...document.querySelectorAll('#decode-items li')].map((row) => [...row.children].map((cell) => cell.textContent)))"""
    return page(script)


def picked(page, k):
    """What the canvas shows of item k of the archive, (4, H, W), after a click on it."""
    script = """const button = document.querySelector(`#decode-items button[value="${values[0]}"]`), canvas = document.getElementById('decode-canvas');
        const status = document.getElementById('decode-status');
        status.textContent = '';
        button.click();
        const wait = () => /^This |Decoded/.test(status.textContent)
            ? settle([status.textContent, canvas.height, canvas.width, text(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)])
            : setTimeout(wait, 20);
        wait()"""
    line, height, width, pixels = page(script, k)
    assert line.startswith("Decoded"), line
    return np.frombuffer(base64.b64decode(pixels), "u1").reshape(height, width, 4).transpose(2, 0, 1)


def test_items_of_archives(page):
    """Of one form and of several, with and without names, along wavefronts and in calls: each opens with a click."""
    shapes = [(3, 24, 24), (3, 17, 40), (1, 24, 24)]
    mixed = [picture(crop(*shape)) for shape in shapes] + [
        Content.of_bytes(b"some text, and more of it"),
        Content.of_bytes(b""),
    ]
    mixed[1] = Content(Kind.IMAGE, crop(3, 17, 40), "png", about={"dpi": b"300"})
    names = ["a.png", "folder/café.png", "c d.png", "note.txt", "nothing"]
    tiles = [picture(crop(3, 16, 16, y, 30)) for y in (0, 20, 50)]
    for items, given, model, check in ((mixed, names, SMALL, 32), (tiles, None, SMALL, 8), (tiles, None, ANY, 32)):
        data = packed(items, given, model, check)
        assert np.array_equal(page.decode(data), items[0].samples)
        rows = listed(page)
        first = [[*row] for row in ((given or [f"item {k}" for k in range(9)])[k : k + 1] for k in range(len(items)))]
        assert [row[:1] for row in rows] == first
        for k, item in enumerate(items):
            if item.kind == Kind.IMAGE:
                shown = picked(page, k)
                assert np.array_equal(shown[:3], np.broadcast_to(item.samples, shown[:3].shape)), (model, k)
            else:
                assert rows[k][1] == "text or other bytes"


def test_golden_archives(page):
    data = (GOLDEN / "good-wave-archive.ardm").read_bytes()
    archive = open_archive(data)
    page.decode(data)
    for k, content in enumerate(archive.items(lambda short, steps: registry.coder(GOLDEN / "waves"))):
        shown = picked(page, k)
        assert np.array_equal(shown[:3], np.broadcast_to(content.samples, shown[:3].shape))


def test_archives_of_lines(page):
    """The page lists the lines, and refuses what contradicts itself as Python does."""
    data = (GOLDEN / "good-archive-lines.ardm").read_bytes()
    assert re.search("holds no pictures. ardm extract", page.decode(data))
    assert listed(page) == [[f"line {k}", "text or other bytes"] for k in range(5)]
    for header in (b"\xad\xa1\x12\x01", b"\xad\xa1\x20\x01", b"\xad\xa1\x40\x01"):
        assert re.search("damaged: the fields of its header", page.decode(header + bytes([crc8(header)])))
    for flags in (b"\x08", b"\x80"):
        header = b"\xad\xa1" + flags + b"\x01"
        assert re.search("later version", page.decode(header + bytes([crc8(header)])))


def test_damaged_archives_get_one_clear_line(page):
    items = [picture(crop(3, 9, 9, y)) for y in (0, 20)]
    data = packed([*items, Content.of_bytes(b"text")], ["a", "b", "c"])
    sound = Content(Kind.AUDIO, np.arange(400, dtype="<u2").reshape(1, 1, -1), "wav", rate=8000)
    said = {"holds no pictures. ardm extract": [packed([sound]), packed([Content.of_bytes(b"text")])]}
    said["damaged|later version|not an .ardm file|the model|This archive"] = [
        *(flipped(data, at) for at in range(len(data) - 5)), *(data[:at] for at in range(7, len(data), 7)), data + b"!",
    ]  # fmt: skip
    for line, files in said.items():
        for k, file in enumerate(files):
            found = page.decode(file)
            if isinstance(found, str):
                assert re.search(line, found), (line, k, found)
                assert re.fullmatch(r"This (?!page failed).{10,150}\.", found), found
            else:  # another item is damaged
                assert np.array_equal(found, items[0].samples)


# --- bad files --------------------------------------------------------------------------------------------------------


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def hostile(height, width, model=b"\x12\x34"):
    """A header of a picture coded by a model, and nothing else."""
    header = b"\xad\xd1\x1b" + varint(height) + varint(width) + model
    return header + bytes([crc8(header)]) + b"\1" * 20


def laborious():
    """The same of a picture that an any-order model would need gigabytes for."""
    model = bytes.fromhex(registry.model(ANY).identity[:4])
    header = b"\xad\xd1\x89\x13" + varint(1024) + varint(1025) + model + varint(50)
    return header + bytes([crc8(header)]) + b"\1" * 20


def test_bad_files_get_one_clear_line(page):
    data = coded(SMALL, 0, (3, 32, 32))[0]
    model = bytes.fromhex(registry.model(SMALL).identity[:4])
    bad = {
        "damaged: its stream does not end|damaged: the checksum of its samples": [
            data[:-5],
            data[:-1],
            data[:40],
            data + b"\0",
        ],
        "ends within its header": [data[:3], data[:4]],
        "checksum of its samples|its stream does not end|checksum of its header|format": [
            flipped(data, at) for at in (2, 5, 6, 9, len(data) // 2, len(data) - 1)
        ],
        "needs the model 1234, which this page does not have": [hostile(40, 30)],
        "claims a picture of 2097152 × 1048576 pixels": [hostile(2**20, 2**21, model), hostile(2**20, 2**21)],
        "too large for an any-order model": [laborious()],
        "damaged|claims": [hostile(2**62, 2**62), hostile(1, 0)],
        "is a PNG picture": [(ROOT / "docs/pictures/plan.png").read_bytes()],
        "is empty": [b""],
        "is not an .ardm file.*ardm decompress --bare": [b"hello, world", data[:1]],
        "holds a sound.* ardm decompress restores it": [(GOLDEN / "good-audio-8.ardm").read_bytes()],
        "needs the model .* ardm decompress -m": [(GOLDEN / "good-archive-tiles.ardm").read_bytes()],
        ".": [path.read_bytes() for kind in ("bad", "unsupported") for path in sorted(GOLDEN.glob(f"{kind}-*.ardm"))],
    }
    for said, files in bad.items():
        for k, file in enumerate(files):
            line = page.decode(file)
            assert isinstance(line, str), (said, k)
            assert re.search(said, line), (said, k, line)
            assert re.fullmatch(r"This (?!page failed).{10,150}\.", line), line


# --- filling ----------------------------------------------------------------------------------------------------------


class Chance:
    """mulberry32, as docs/demo/js/coder.js has it."""

    def __init__(self, seed):
        self.state = seed

    def slot(self):
        self.state = (self.state + 0x6D2B79F5) % 2**32
        t = self.state
        t = (t ^ t >> 15) * (1 | t) % 2**32
        t ^= (t + (t ^ t >> 7) * (61 | t)) % 2**32
        return (t ^ t >> 14) >> 8

    def pop(self, table):
        slots = np.array([self.slot() for _ in range(len(table))])
        return (slots[:, None] >= table.cumsum(axis=1)).sum(axis=1)


def planned(hidden, calls):
    """The order of hidden sites (C, H, W) along the ranks of the model, and the cost of the cheapest schedule."""
    model = registry.model(ANY)
    _, H, W = hidden.shape
    ranks = model.planned.ranks[:, np.arange(H)[:, None] % 32, np.arange(W) % 32]
    sites = [s for s in np.lexsort((np.arange(hidden.size), ranks.ravel())) if hidden.ravel()[s]]
    known, curve = hidden.size - len(sites), model.planned.curve[0] / 2**16
    losses = curve[(known + np.arange(len(sites))) * curve.size // hidden.size]
    (starts,) = cheapest([losses], calls)
    return np.array(sites), losses, cost(losses, starts)


def cost(losses, starts):
    return (np.diff([*starts, len(losses)]) * losses[list(starts)]).sum()


def filled(values, hidden, sites, starts, seed):
    """The values after a walk of the integer network over the hidden sites."""
    coder, chance = registry.coder(ANY), Chance(seed)
    when = np.full(hidden.size, NEVER)
    when[sites] = np.searchsorted(starts, np.arange(len(sites)), side="right") - 1
    order = Order(when.reshape(1, *hidden.shape), 256)
    value, depth = np.where(hidden, 0, values)[None], (~hidden).astype(np.int64)[None]
    for reveal in order.reveals:
        rows = coder._run(Ask(value, depth, order.sites(reveal, 1)))
        symbols = np.zeros(len(reveal), dtype=np.int64)
        for stage, radix in enumerate(rows.radices):
            symbols = symbols * radix + chance.pop(rows.table(stage, symbols))
        order.write(reveal, symbols[None], value, depth)
    return value[0]


def test_filling_is_that_of_the_integer_model(page):
    side, calls, seed = 32, 6, 5
    values, hidden = crop(3, side, side).astype(np.int64), np.zeros((3, side, side), dtype=bool)
    hidden[:, 6:20, 9:25] = True
    script = """Fill.load(values[0], bytes(values[1]), bytes(values[2]));
        Fill.complete({temperature: 1, count: values[3], chance: values[4]}).then(
            (found) => settle([Array.from(found.values), found.starts, found.cost]), (error) => settle(error.stack))"""
    found, starts, nats = page(
        script, side, values.astype("u1").tobytes(), hidden[0].astype("u1").tobytes(), calls, seed
    )
    sites, losses, least = planned(hidden, calls)
    assert len(starts) == calls
    assert cost(losses, starts) == pytest.approx(nats)
    assert nats == pytest.approx(least, rel=1e-6)
    assert np.array_equal(np.reshape(found, hidden.shape), filled(values, hidden, sites, starts, seed))


# --- the page itself --------------------------------------------------------------------------------------------------


def wait(page, name, said):
    """Wait until the status of a panel matches."""
    from selenium.webdriver.support.wait import WebDriverWait

    status = page.driver.find_element("id", f"{name}-status")
    WebDriverWait(page.driver, 60).until(lambda _: re.search(said, status.text), said)
    return status.text


def test_by_hand(page, tmp_path):
    """A PNG through the file field, encoded and decoded; a gap erased by keyboard and mouse, and completed."""
    from selenium.webdriver import ActionChains, Keys

    driver = page.driver
    driver.find_element("id", "tab-decode").send_keys(Keys.ARROW_RIGHT)
    assert driver.switch_to.active_element.get_attribute("id") == "tab-encode"
    source = tmp_path / "photo.png"
    Image.fromarray(crop(3, 24, 40).transpose(1, 2, 0)).save(source)
    driver.find_element("id", "encode-file").send_keys(str(source))
    assert "bits a sample" in wait(page, "encode", "bytes")
    bars = {bar.text.split("\n")[0]: bar.text for bar in driver.find_elements("class name", "bar")}
    assert {"ardm", "PNG, as given", "Samples"} <= set(bars)
    driver.find_element("id", "encode-check").click()
    assert "every sample is exact" in wait(page, "decode", "Decoded")
    driver.find_element("id", "tab-fill").click()
    canvas, run = driver.find_element("id", "fill-canvas"), driver.find_element("id", "fill-run")
    driver.find_element("id", "fill-restore").click()
    assert not run.is_enabled()
    canvas.send_keys(" ")
    assert wait(page, "fill", "values are hidden") == "108 values are hidden."
    ActionChains(driver, duration=20).drag_and_drop_by_offset(canvas, 60, 40).perform()
    assert wait(page, "fill", "values are hidden") != "108 values are hidden."
    driver.find_element("id", "fill-step").click()
    wait(page, "fill", "Call 1 of")
    driver.find_element("id", "fill-restore").click()
    assert wait(page, "fill", "Erase something")


def test_every_width_and_both_schemes(page):
    """No panel is wider than a phone, and the colours follow the scheme."""
    grounds = set()
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        grounds.add(page("settle(getComputedStyle(document.body).backgroundColor)"))
    assert len(grounds) == 2
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for name in ("decode", "encode", "fill"):
        assert page("Page.open(values[0]); settle(document.documentElement.scrollWidth)", name) <= 360, name
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_is_built(folder):
    """The page is small, has every script that it names, and asks for nothing from elsewhere."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    page = (folder / "index.html").read_text()
    assert all((folder / name).is_file() for name in re.findall(r'(?:src|href)="((?:js|data)/[^"]+|style.css)"', page))
    assert {path.name for path in (folder / "js").iterdir()} == set(re.findall(r'"js/([^"]+)"', page))
    for name in BUILD.MODELS:
        assert BUILD.identity(BUILD.MODELS[name].read_bytes()) == registry.model(name).identity
    for path in BUILD.FILES.values():  # else: python benchmarks/demo_samples.py
        assert read_header(Reader.open(path.read_bytes())).model == registry.model(ANY).identity[:4]
    assert not re.search(r"https?://", page)
