"""Models on the hub, against a stub on this machine: what is uploaded, what is asked for, the page, the errors."""

import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

import ardm
from ardm.errors import ArdmError
from ardm.models import hub
from tests_support import make_model


class Stub:
    """The hub as a folder for each revision of each repository."""

    def __init__(self, root):
        self.root, self.asked = root, []

    def api(self, token=None):
        self.asked.append(("token", token))
        return self

    def create_repo(self, name, private, exist_ok):
        assert exist_ok
        if name.startswith("others/"):
            raise OSError("403 Forbidden\nmore")
        self.asked.append(("private", private))

    def upload_folder(self, repo_id, folder_path, revision, commit_message, allow_patterns):
        self.asked.append(("message", commit_message))
        target = self.root / repo_id / (revision or "main")
        target.mkdir(parents=True, exist_ok=True)
        for pattern in allow_patterns:
            for file in Path(folder_path).glob(pattern):
                shutil.copy(file, target)
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}"})

    def snapshot_download(self, name, revision, allow_patterns):
        folder = self.root / name / (revision or "main")
        if not folder.is_dir():
            raise OSError(f"404 {name}\nmore")
        return str(folder)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    made = Stub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made.api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.chdir(tmp_path)  # so that no folder has the name of a repository
    return made


@pytest.fixture
def bundle(tmp_path):
    make_model(tmp_path / "mine")
    return ardm.load(tmp_path / "mine")


def test_what_is_pushed_is_what_is_loaded(stub, bundle):
    assert bundle.push_to_hub("me/mine", private=True, token="t") == "https://hub/me/mine"
    assert stub.asked == [("token", "t"), ("private", True), ("message", f"mine, {bundle.identity}")]
    found = ardm.load("me/mine")
    assert found.identity == bundle.identity
    assert dict(found.card) == dict(bundle.card)
    assert found.curve is not None
    names = {path.name for path in (stub.root / "me" / "mine" / "main").iterdir()}
    assert names == {"README.md", "config.json", "curve.safetensors", "model.safetensors"}


def test_a_codec_model_comes_along(stub):
    x = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    made = ardm.fit(x, preset="pictures-small", width=16, blocks=1, steps=2, batch=8, codec=True, progress=False)
    made.push_to_hub("me/codec")
    folder = Path(stub.snapshot_download("me/codec", None, []))
    assert ardm.decompress(ardm.compress(x[0], model=folder), model=folder).tolist() == x[0].tolist()
    assert "ardm.compress" in (folder / "README.md").read_text()


def test_revisions_are_kept_apart(stub, bundle):
    bundle.push_to_hub("me/mine", revision="v2")
    assert ardm.load("me/mine", revision="v2").identity == bundle.identity
    with pytest.raises(ArdmError, match=r"the hub does not have it or cannot be reached: 404 me/mine$"):
        ardm.load("me/mine")
    with pytest.raises(ArdmError, match="revision is for models on the hub"):
        ardm.load("cifar10-any-order", revision="v2")


CARD = {
    "name": "mine",
    "summary": "Paints.",
    "licence": "Apache-2.0",
    "data": "CIFAR-10 | mirrored",
    "recipe": {"data": {"name": "cifar10"}},
    "figures": {"bound": [4.5016, 0.0692, 200], "coded": 3.39},
    "valid": 3.4,
}


def test_the_page_shows_the_card():
    text = hub.page(CARD, "image", "me/mine", {"parameters": "5"})
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "ardm",
        "license": "apache-2.0",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["ardm", "any-order", "discrete-diffusion", "likelihood", "image"],
        "datasets": ["uoft-cs/cifar10"],
    }
    for line in (
        "# mine",
        "Paints.",
        "| parameters | 5 |",
        r"| data | CIFAR-10 \| mirrored |",
        "| bound | 4.5016 | 0.0692 | 200 |",
        "| coded | 3.3900 |  |  |",
        "| validation, bits/dim | 3.4000 |  |  |",
        'model = ardm.load("me/mine")',
    ):
        assert line in body.split("\n")


def test_metadata_says_only_what_the_card_says():
    plain = hub.metadata({}, "text")
    assert set(plain) == {"library_name", "tags"}
    other = hub.metadata({"licence": "Apache-2.0 for the weights; MNIST is CC BY-SA 3.0", "datasets": ["a/b"]}, "text")
    assert (other["license"], other["license_name"][:10], other["datasets"]) == ("other", "Apache-2.0", ["a/b"])


def test_refusals(stub, bundle, monkeypatch):
    for name in ("mine", "me/", "a/b/c", 5):
        with pytest.raises(ArdmError, match="is named 'owner/name'; got"):
            bundle.push_to_hub(name)
    with pytest.raises(ArdmError, match=r"others/mine cannot be uploaded: 403 Forbidden$"):
        bundle.push_to_hub("others/mine")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ArdmError, match="to upload a model, install huggingface_hub"):
        bundle.push_to_hub("me/mine")
    with pytest.raises(ArdmError, match="install huggingface_hub"):
        ardm.load("me/mine")
