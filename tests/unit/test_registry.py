import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.unit.test_atomic import SMALL_FILES
from vouch.errors import AlreadyExists, CorruptVersion, InvalidInput, NotFound
from vouch.storage.catalog import Catalog
from vouch.storage.objects import object_path
from vouch.storage.registry import MANIFEST, Registry, read_manifest


@pytest.fixture
def registry(catalog, tmp_path, models_url):
    """In a folder beside SQLite, in an object store beside PostgreSQL."""
    return Registry(catalog, tmp_path / "models", models_url)


@pytest.fixture
def folder(tmp_path):
    """What training leaves: weights, a config in a sub-folder."""
    made = tmp_path / "trained"
    (made / "unet").mkdir(parents=True)
    save_file({"weight": np.arange(6, dtype=np.float16)}, made / "unet" / "model.safetensors")
    (made / "model_index.json").write_text("{}")
    return made


def publish(registry, folder, **values):
    return registry.publish(folder, **{"kind": "generator", "format": "diffusers", **values})


def test_a_published_version_is_opened_by_name_digest_or_its_beginning(registry, folder):
    version = publish(registry, folder, lineage={"command": "vouch train", "ratings": ["1", "2"]})

    assert version.name == "generator-1"
    for ref in (version.name, version.digest, version.digest[:8]):
        assert registry.get(ref) == version
        opened = registry.open(ref)
        assert load_file(opened / "unet" / "model.safetensors")["weight"].tolist() == [0, 1, 2, 3, 4, 5]
    assert read_manifest(opened) == version


def test_what_was_published_does_not_follow_its_source(registry, folder):
    version = publish(registry, folder)
    (folder / "model_index.json").write_text("changed")
    assert (registry.open(version.name) / "model_index.json").read_text() == "{}"


def test_versions_are_numbered_by_kind_and_label(registry, folder):
    names = [
        publish(registry, folder).name,
        publish(registry, folder).name,
        publish(registry, folder, kind="reward").name,
        publish(registry, folder, label="rwr").name,
        publish(registry, folder, label="rwr").name,
        publish(registry, folder).name,
        publish(registry, folder, name="starter-generator").name,
    ]
    expected = ["generator-1", "generator-2", "reward-1", "generator-rwr-1", "generator-rwr-2", "generator-3"]
    assert names == [*expected, "starter-generator"]
    assert [version.name for version in registry.list()] == names[::-1]
    assert [version.name for version in registry.list("reward")] == ["reward-1"]


def test_lineage_leads_from_a_version_to_its_root(registry, folder):
    root = publish(registry, folder)
    child = publish(registry, folder, parent=root.name, format="lora")
    grandchild = publish(registry, folder, parent=child.digest[:12], format="lora")

    assert registry.lineage(grandchild.name) == [grandchild, child, root]
    assert grandchild.parent == child.digest


def test_the_base_of_an_adapter_is_the_first_whole_model_in_its_lineage(registry, folder):
    root = publish(registry, folder)
    whole = publish(registry, folder, parent=root.name, format="onnx")
    child = publish(registry, folder, parent=whole.name, format="lora")
    grandchild = publish(registry, folder, parent=child.name, format="lora")
    for version, base in ((root, root), (whole, whole), (child, whole), (grandchild, whole)):
        assert registry.base_of(version.name) == base


def test_what_has_no_base_is_refused(registry, folder):
    orphan = publish(registry, folder, format="lora")
    with pytest.raises(NotFound, match=f"that {orphan.name} adapts"):
        registry.base_of(orphan.name)
    reward = publish(registry, folder, kind="reward", format="reward")
    with pytest.raises(InvalidInput, match="not a generator"):
        registry.base_of(reward.name)


def test_publishing_the_same_again_gives_the_version_that_is_there(registry, folder):
    named = publish(registry, folder, name="starter-generator")
    assert publish(registry, folder, name="starter-generator") == named

    of_run = publish(registry, folder, lineage={"run_id": "align-1"})
    assert publish(registry, folder, lineage={"run_id": "align-1", "note": "resumed"}) == of_run
    assert len(registry.list()) == 2


def test_a_name_cannot_mean_two_things(registry, folder):
    publish(registry, folder, name="best")
    (folder / "model_index.json").write_text("other")
    with pytest.raises(AlreadyExists, match="best"):
        publish(registry, folder, name="best")


@pytest.mark.parametrize("name", ["", "Best", "a/b", "..", "deadbeef", "x" * 65, "a b"])
def test_what_cannot_be_a_name_is_refused(name, registry, folder):
    with pytest.raises(InvalidInput, match="cannot name"):
        publish(registry, folder, name=name)


def test_a_lineage_is_kept_as_json_and_nan_becomes_nothing(registry, folder):
    version = publish(registry, folder, lineage={"metrics": {"loss": float("nan"), "steps": (1, 2)}})
    assert version.lineage == {"metrics": {"loss": None, "steps": [1, 2]}}
    assert registry.get(version.name) == version


@pytest.mark.parametrize("ref", ["generator-9", "", "0" * 64, "0" * 8, "%", "_" * 10])
def test_an_unknown_version_is_not_found(ref, registry, folder):
    publish(registry, folder)
    with pytest.raises(NotFound, match="vouch versions"):
        registry.open(ref)


def test_a_version_of_another_kind_than_asked_for_is_refused(registry, folder):
    generator, reward = publish(registry, folder), publish(registry, folder, kind="reward")
    assert registry.digest("") == ""
    assert registry.digest(generator.name) == registry.digest("generator@1", "generator") == generator.digest
    with pytest.raises(InvalidInput, match="generator-1 is a generator, not a reward model"):
        registry.digest(generator.name, "reward")
    with pytest.raises(InvalidInput, match="reward-1 is a reward, not a generator"):
        registry.digest(reward.digest, "generator")


def test_a_name_that_another_process_takes_meanwhile_leaves_nothing_behind(
    registry, folder, tmp_path, models_url, monkeypatch
):
    """Both found the name free; the other was the first to enter it."""

    def kept():
        roots = [object_path(root) for root in (str(tmp_path / "models"), models_url) if root]
        return sorted(str(path) for root in roots for path in root.rglob("*"))

    publish(registry, folder, name="taken")
    monkeypatch.setattr(registry, "_known", lambda name, fixed: None)
    before = kept()
    (folder / "model_index.json").write_text('{"of": "the second"}')
    with pytest.raises(AlreadyExists, match="another version called taken"):
        publish(registry, folder, name="taken")
    assert kept() == before


def test_an_unknown_parent_is_refused_before_anything_is_copied(registry, folder, tmp_path):
    with pytest.raises(NotFound):
        publish(registry, folder, parent="generator-9")
    assert not list(tmp_path.glob("models/*"))


def damage(path, how):
    path.chmod(0o644)
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("how", "what"),
    [("truncated", "has .* bytes instead of"), ("flipped", "has changed"), ("removed", "is missing")],
)
def test_a_damaged_version_is_refused_and_the_file_is_named(how, what, registry, folder):
    version = publish(registry, folder)
    damage(registry.folder(version.name) / "unet" / "model.safetensors", how)
    with pytest.raises(CorruptVersion, match=f"generator-1 is damaged: unet/model.safetensors {what}"):
        registry.open(version.name)


def test_a_file_that_was_put_into_a_version_is_refused(registry, folder):
    version = publish(registry, folder)
    (registry.folder(version.name) / "unet" / "model.bin").write_bytes(b"\x80")
    with pytest.raises(CorruptVersion, match=r"unet/model\.bin does not belong"):
        registry.open(version.name)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": 3}'])
def test_a_damaged_manifest_is_refused(content, registry, folder):
    version = publish(registry, folder)
    (registry.folder(version.name) / MANIFEST).write_text(content)
    with pytest.raises(CorruptVersion, match="manifest"):
        registry.open(version.name)


def test_a_manifest_that_was_rewritten_to_fit_other_files_is_refused(registry, folder):
    version = publish(registry, folder)
    path = registry.folder(version.name) / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["lineage"] = {"ratings": ["forged"]}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptVersion, match="not the one that was published"):
        registry.open(version.name)


def test_a_version_whose_folder_is_gone_is_not_found(catalog, folder, tmp_path):
    registry = Registry(catalog, tmp_path / "models")
    version = publish(registry, folder)
    registry.folder(version.name).rename(folder.parent / "elsewhere")
    with pytest.raises(NotFound, match="backup"):
        registry.open(version.name)


def test_pickled_weights_are_refused_unless_safetensors_lie_beside(registry, folder):
    (folder / "unet" / "model.bin").write_bytes(b"\x80")
    assert sorted(publish(registry, folder).files) == ["model_index.json", "unet/model.safetensors"]

    (folder / "weights.pt").write_bytes(b"\x80")
    with pytest.raises(InvalidInput, match=r"weights\.pt is a pickle.*safetensors"):
        publish(registry, folder)


def test_hidden_files_stay_out(registry, folder):
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("x")
    assert sorted(publish(registry, folder).files) == ["model_index.json", "unet/model.safetensors"]


def test_what_holds_nothing_is_not_published(registry, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(InvalidInput):
            publish(registry, source)
    assert registry.list() == []
    assert not list(tmp_path.glob("models/*"))


def test_versions_published_at_once_get_names_of_their_own(catalog, folder, tmp_path, models_url):
    registries = [Registry(catalog, tmp_path / "models", models_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        versions = list(threads.map(lambda registry: publish(registry, folder), registries * 2))

    assert {version.name for version in versions} == {f"generator-{n}" for n in range(1, 9)}
    assert all(registries[0].open(version.name) for version in versions)
    assert len(list((tmp_path / "models").iterdir())) == 8


def test_a_version_that_does_not_fit_on_the_disk_is_not_published(tmp_path, folder):
    (folder / "big.safetensors").write_bytes(bytes(1 << 20))
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    Catalog(url).close()
    script = f"""{SMALL_FILES.replace("8192", "500000")}
from vouch.storage.catalog import Catalog
from vouch.storage.objects import object_path
from vouch.errors import StorageFull
from vouch.storage.registry import Registry
registry = Registry(Catalog({url!r}), {str(tmp_path / "models")!r})
try:
    registry.publish({str(folder)!r}, kind="generator", format="diffusers")
except StorageFull as error:
    print(error.reason, registry.list())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("STORAGE_FULL []\n", "")
    assert not list((tmp_path / "models").iterdir())


def test_evidence_lies_beside_a_version_and_the_last_counts(registry, folder):
    version = publish(registry, folder)
    assert registry.evidence(version.name) == {}
    registry.attach_evidence(version.name, {"gate": {"verdict": "refuse"}, "lost": float("nan")})
    registry.attach_evidence(version.digest, {"gate": {"verdict": "pass"}})
    assert registry.evidence(version.digest[:8]) == {"gate": {"verdict": "pass"}}
    registry.open(version.name)  # the files are as they were


def test_evidence_is_in_the_audit_log_before_it_is_kept(catalog, folder, tmp_path, monkeypatch):
    registry = Registry(catalog, tmp_path / "models")
    version = publish(registry, folder)
    monkeypatch.setattr("vouch.storage.registry.write_whole", lambda *_: pytest.fail("the process ends here"))
    with pytest.raises(pytest.fail.Exception):
        registry.attach_evidence(version.digest, {"gate": "pass"}, by="ops")
    (entry,) = catalog.audit.entries()
    assert (entry.actor, entry.action, entry.subject) == ("ops", "evidence attach", version.name)


def test_the_same_evidence_is_the_same_text_in_whatever_order_it_was_found(catalog, folder, tmp_path):
    registry = Registry(catalog, tmp_path / "models")
    version = publish(registry, folder)
    file = tmp_path / "models" / f"{version.digest}.evidence.json"
    for evidence in ({"gate": "pass", "against": "é"}, {"against": "é", "gate": "pass"}):
        registry.attach_evidence(version.name, evidence)
        assert file.read_text("utf-8") == '{\n "against": "é",\n "gate": "pass"\n}'


def test_damaged_evidence_is_told(catalog, folder, tmp_path):
    registry = Registry(catalog, tmp_path / "models")
    version = publish(registry, folder)
    registry.attach_evidence(version.name, {"gate": None})
    (tmp_path / "models" / f"{version.digest}.evidence.json").write_text("{")
    with pytest.raises(CorruptVersion, match="vouch evaluate"):
        registry.evidence(version.name)


def test_a_link_to_a_file_of_the_same_folder_is_published_as_that_file(registry, folder):
    (folder / "vae").mkdir()
    (folder / "vae" / "model.safetensors").symlink_to("../unet/model.safetensors")
    opened = registry.open(publish(registry, folder).digest)
    assert not (opened / "vae" / "model.safetensors").is_symlink()
    assert (opened / "vae" / "model.safetensors").read_bytes() == (
        folder / "unet/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("target", ["secret.txt", "nowhere"])
def test_a_link_that_leaves_the_folder_is_refused_by_name_and_nothing_is_published(
    registry, folder, tmp_path, target
):
    (tmp_path / "secret.txt").write_text("a private key")
    (folder / "config.json").symlink_to(tmp_path / target)
    with pytest.raises(InvalidInput, match=r"config\.json is a link to something that is not a file of this"):
        publish(registry, folder)
    assert registry.list() == []
    assert "private key" not in "".join(
        path.read_text() for path in (tmp_path / "models").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_to_a_folder_is_refused_for_what_it_is(registry, folder, tmp_path, inside):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "weights.safetensors").write_text("others' weights")
    (folder / "text_encoder").symlink_to(folder / "unet" if inside else tmp_path / "outside")
    with pytest.raises(
        InvalidInput, match=r"text_encoder is a link to a folder, .* put a copy of the folder"
    ):
        publish(registry, folder)
    assert registry.list() == []


def test_a_snapshot_of_the_hubs_cache_is_published_with_the_blobs_that_it_links_to(
    registry, folder, tmp_path
):
    cache = tmp_path / "models--owner--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "ab12").write_text("{}")
    snapshot = cache / "snapshots" / "0f1e"
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").symlink_to("../../blobs/ab12")
    opened = registry.open(publish(registry, snapshot).digest)
    assert (opened / "model_index.json").read_text() == "{}"
    (snapshot / "config.json").symlink_to(folder / "model_index.json")
    with pytest.raises(InvalidInput, match=r"config\.json is a link"):
        publish(registry, snapshot)
