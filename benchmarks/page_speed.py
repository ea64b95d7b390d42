"""The page in the browser beside Python, on one machine: processor time of encoding, decoding and network calls.

    python benchmarks/page_speed.py              # needs node; both run one thread
    python benchmarks/page_speed.py --runs 5

The parts of the page run in node, which has Chromium's JavaScript engine: in WebAssembly, and small pictures also without.
Each figure is the median of several runs after one that is not counted.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from ardm.codec import decode, encode, registry
from ardm.content import Content, Kind
from ardm.exact.ask import Ask, AskedSites
from ardm.media.pictures import read_image

ROOT = Path(__file__).parents[1]
ASSETS = Path(str(resources.files("ardm") / "assets"))
MODELS = ("pictures-small", "pictures")
ANY = "cifar10-any-order"
SIDES = (32, 128)

SCRIPT = """
const fs = require("fs"), vm = require("vm"), [, , js, work] = process.argv;
const named = [...fs.readFileSync(js + "/../index.html", "utf8").matchAll(/"js\\/([^"]+)"/g)].map((found) => found[1]);
for (const name of named.slice(0, named.indexOf("page.js"))) vm.runInThisContext(fs.readFileSync(`${js}/${name}`, "utf8"));
const bytes = (path) => new Uint8Array(fs.readFileSync(path)), plain = process.argv[4] === "plain", runs = Number(process.argv[5]);
if (plain) ARDM.Products = class extends ARDM.Products { constructor() { super(false); } };
function median(run) {
  const all = [];
  for (let k = 0; k <= runs; k++) {
    const began = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(began);
    if (k) all.push((user + system) / 1e6);
  }
  return all.sort((a, b) => a - b)[runs >> 1];
}
const out = {};
for (const { model, side, assets } of JSON.parse(fs.readFileSync(work + "/jobs.json"))) {
  if (plain && (side > 32 || model === "cifar10-any-order")) continue;
  const loaded = new ARDM.Model(bytes(`${assets}/${model}/codec.safetensors`));
  if (model === "cifar10-any-order") {
    const network = new ARDM.OrderWalk(loaded, side, side, { calls: 50 }).network;
    out[`${model} ${side} call`] = median(() => (network.look(), network.ask(0, [0])));
    continue;
  }
  const file = bytes(`${work}/${model}-${side}.ardm`), picture = { planes: 3, height: side, width: side };
  picture.samples = bytes(`${work}/${side}.raw`);
  const go = (job) => { while (job.run(() => false)); return job; };
  out[`${model} ${side} decode`] = median(() => go(new ARDM.Decoding(file, () => loaded)));
  out[`${model} ${side} encode`] = median(() => go(new ARDM.Encoding(picture, loaded)));
}
console.log(JSON.stringify(out));
"""


def median(run, runs):
    """Processor seconds."""
    times = []
    for _ in range(runs + 1):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


def photo(side):
    """A square of a photograph (3, side, side)."""
    return np.ascontiguousarray(read_image(ASSETS / "demo" / "cat.png").numpy()[:, :side, :side].astype("u1"))


def in_python(work, runs):
    """Seconds by job; writes the files that the page decodes."""
    found, jobs = {}, []
    for model in MODELS:
        coder = registry.coder(model, threads=1)
        for side in SIDES:
            content = Content(Kind.IMAGE, photo(side), "png")
            data = encode.compress(content, coder)[0]
            (work / f"{model}-{side}.ardm").write_bytes(data)
            (work / f"{side}.raw").write_bytes(content.samples.tobytes())
            found[f"{model} {side} decode"] = median(lambda d=data: decode.decompress(d, registry.maker()), runs)
            found[f"{model} {side} encode"] = median(lambda c=content, by=coder: encode.compress(c, by), runs)
            jobs.append({"model": model, "side": side, "assets": str(ASSETS)})
    coder, value = registry.coder(ANY), photo(32).astype(np.int64)[None]
    ask = Ask(value, np.ones_like(value), AskedSites(*np.zeros((4, 1), dtype=np.int64)))
    found[f"{ANY} 32 call"] = median(lambda: coder._run(ask), runs)
    jobs.append({"model": ANY, "side": 32, "assets": str(ASSETS)})
    (work / "jobs.json").write_text(json.dumps(jobs))
    return found


def in_page(work, how, runs):
    """The same by the parts of the page."""
    (work / "run.js").write_text(SCRIPT)
    command = ["node", str(work / "run.js"), str(ROOT / "docs" / "demo" / "js"), str(work), how, str(runs)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        python = in_python(Path(folder), runs)
        ways = {"Python": python} | {how: in_page(Path(folder), how, runs) for how in ("wasm", "plain")}
    print("| | " + " | ".join(ways) + " |")
    for job in python:
        print(
            f"| {job} | "
            + " | ".join(f"{1000 * way[job]:.1f} ms" if job in way else "–" for way in ways.values())
            + " |"
        )
