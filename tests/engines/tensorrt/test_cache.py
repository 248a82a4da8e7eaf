"""The engine cache: what is found, what is refused with both sides named, and what is never half there."""

import io
import json
import multiprocessing
import os
import tarfile
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_engines.errors import EngineError, EngineMismatchError
from kneerisk_engines.plain import from_plain, to_plain
from kneerisk_engines.tensorrt.bundle import chosen, export_engines, import_engines
from kneerisk_engines.tensorrt.cache import (
    CACHE_VARIABLE,
    MANIFEST,
    PLAN,
    CachedEngine,
    EngineCache,
    cache_root,
)
from kneerisk_engines.tensorrt.key import EngineKey

KEY = EngineKey(
    component="unet",
    onnx_sha256="a" * 64,
    spec_sha256="b" * 64,
    batches=(1, 8, 32),
    flavour="tensorrt",
    version="11.4.0",
    precision="fp16",
    targets=(),
    hardware_compatibility="none",
    deterministic=False,
    compute_capability="sm90",
    gpu="NVIDIA H100",
    multiprocessors=132,
)
OTHERS = {
    "component": "encoder",
    "onnx_sha256": "c" * 64,
    "spec_sha256": "d" * 64,
    "batches": (1, 4, 8),
    "flavour": "tensorrt-rtx",
    "version": "11.2.0",
    "precision": "bf16",
    "targets": ("sm80",),
    "hardware_compatibility": "same-cc",
    "deterministic": True,
    "compute_capability": "sm89",
    "gpu": "NVIDIA L4",
    "multiprocessors": 58,
}
PASSED = {"failures": []}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def engine(cache: EngineCache) -> CachedEngine:
    return cache.publish(KEY, b"plan" * 1000, log="built", verification=PASSED)


def test_what_was_published_is_found_and_handed_out(cache: EngineCache, engine: CachedEngine) -> None:
    found = cache.find(KEY)
    assert found == engine
    assert found.verified
    assert cache.plan(found) == b"plan" * 1000
    assert list(cache.damaged()) == []


@given(st.sets(st.sampled_from(sorted(OTHERS)), min_size=1))
def test_any_other_key_is_another_engine_and_says_how(changed: set[str]) -> None:
    other = replace(KEY, **{name: OTHERS[name] for name in changed})
    assert other.digest != KEY.digest
    assert other.folder_name != KEY.folder_name
    assert len(KEY.differences(other)) == len(changed)
    assert from_plain(EngineKey, json.loads(json.dumps(to_plain(other))), "key") == other


def test_every_field_of_a_key_was_changed_above() -> None:
    assert set(OTHERS) == {field.name for field in fields(EngineKey)}


def test_a_foreign_engine_is_not_found_and_both_sides_are_named(
    cache: EngineCache, engine: CachedEngine
) -> None:
    here = replace(KEY, version="11.2.0", compute_capability="sm89", gpu="NVIDIA L4", multiprocessors=58)
    assert cache.find(here) is None
    words = KEY.differences(here)
    assert "TensorRT version: built for 11.4.0, here 11.2.0" in words
    assert "compute capability: built for sm90, here sm89" in words


def test_an_engine_in_anothers_place_is_refused(cache: EngineCache, engine: CachedEngine) -> None:
    other = replace(KEY, precision="bf16")
    engine.folder.rename(cache.folder(other))
    with pytest.raises(EngineMismatchError, match="precision: built for fp16, here bf16"):
        cache.find(other)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda plan: plan[:-1], "3999 bytes, its manifest says 4000"),
        (lambda plan: b"evil" + plan[4:], "was changed or damaged"),
    ],
)
def test_a_truncated_or_tampered_plan_is_refused(cache, engine, spoil, said) -> None:
    path = engine.folder / PLAN
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(EngineMismatchError, match=said):
        cache.plan(engine)
    assert [folder for folder, _ in cache.damaged()] == [engine.folder]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1}', '{"format": 99, "key": {}}'])
def test_a_damaged_manifest_is_refused(cache: EngineCache, engine: CachedEngine, content: str) -> None:
    (engine.folder / MANIFEST).write_text(content)
    with pytest.raises(EngineMismatchError):
        cache.find(KEY)
    assert list(cache.entries()) == []
    assert len(list(cache.damaged())) == 1


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_what_others_can_write_is_not_run(cache: EngineCache, engine: CachedEngine) -> None:
    cache.root.chmod(0o777)
    with pytest.raises(EngineMismatchError, match="an engine is code"):
        cache.find(KEY)


def test_an_engine_that_failed_its_verification_is_never_published(cache: EngineCache) -> None:
    failed = {"failures": ["risk_p99 0.3 is above 0.02"]}
    with pytest.raises(EngineError, match="failed its verification"):
        cache.publish(KEY, b"plan", log="", verification=failed)
    place = cache.keep_failure(KEY, log="built", verification=failed)
    assert cache.find(KEY) is None
    assert list(cache.entries()) == []
    assert json.loads((place / MANIFEST).read_text())["verification"] == failed
    assert cache.failures() == [place]
    assert not (place / PLAN).exists()


def test_a_publication_that_is_cut_off_leaves_nothing(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.publish(KEY, b"plan", log="")
    assert cache.find(KEY) is None
    assert list((cache.root / "engines").iterdir()) == []


def build_once(root: Path, builds: Path) -> None:
    cache = EngineCache(root)
    with cache.lock(KEY):
        if cache.find(KEY) is None:
            with builds.open("a") as stream:
                stream.write("built\n")
            time.sleep(0.2)
            cache.publish(KEY, b"plan", log="")


def test_two_processes_build_the_same_engine_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    builders = [
        spawn.Process(target=build_once, args=(tmp_path / "cache", tmp_path / "builds")) for _ in range(2)
    ]
    for process in builders:
        process.start()
    for process in builders:
        process.join()
    assert [process.exitcode for process in builders] == [0, 0]
    assert (tmp_path / "builds").read_text() == "built\n"


def test_the_root_is_the_variables_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_root().name == "kneerisk"


def test_a_bundle_carries_engines_to_another_cache(
    cache: EngineCache, engine: CachedEngine, tmp_path: Path
) -> None:
    file = tmp_path / "kneerisk_engines.tar"
    assert export_engines(cache, chosen(cache.entries(), ["unet"]), file) == [engine.folder.name]
    elsewhere = EngineCache(tmp_path / "other")
    (found,) = import_engines(elsewhere, file)
    assert found.key == KEY
    assert elsewhere.plan(found) == cache.plan(engine)
    assert not found.verified
    with pytest.raises(EngineError, match="no engine 'decoder'"):
        chosen(cache.entries(), ["decoder"])


def bundle(path: Path, files: dict[str, bytes], link: bool = False) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if link:
                entry.type, entry.size, entry.linkname = tarfile.SYMTYPE, 0, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_a_bundle_of_something_else_is_refused_whole(
    cache: EngineCache, engine: CachedEngine, tmp_path: Path
) -> None:
    other = EngineCache(tmp_path / "other")
    name = engine.folder.name
    files = {f"{name}/{path.name}": path.read_bytes() for path in engine.folder.iterdir()}
    assert len(import_engines(EngineCache(tmp_path / "fine"), bundle(tmp_path / "fine.tar", files))) == 1
    refused = [
        bundle(tmp_path / "up.tar", {"../evil": b"x"}),
        bundle(tmp_path / "root.tar", {"/evil/plan": b"x"}),
        bundle(tmp_path / "deep.tar", {"a/b/plan": b"x"}),
        bundle(tmp_path / "link.tar", {f"{name}/plan": b""}, link=True),
        bundle(tmp_path / "empty.tar", {}),
        bundle(tmp_path / "half.tar", {key: files[key] for key in files if not key.endswith(PLAN)}),
        bundle(tmp_path / "changed.tar", files | {f"{name}/plan": b"evil"}),
        bundle(tmp_path / "renamed.tar", {key.replace("unet", "tenu"): files[key] for key in files}),
    ]
    (tmp_path / "no.tar").write_bytes(b"no tar at all")
    for file in (*refused, tmp_path / "no.tar"):
        with pytest.raises(EngineMismatchError):
            import_engines(other, file)
    assert list(other.entries()) == []


def test_removing_stays_within_the_cache(cache: EngineCache, engine: CachedEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not of the cache"):
        cache.remove(tmp_path)
    cache.remove(engine.folder)
    assert cache.find(KEY) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("name", [PLAN, MANIFEST])
def test_a_file_that_others_can_write_is_not_run(cache: EngineCache, engine: CachedEngine, name: str) -> None:
    path = engine.folder / name
    path.chmod(0o620)
    with pytest.raises(EngineMismatchError, match=f"{name} can be written by others"):
        cache.find(KEY)
    with pytest.raises(EngineMismatchError, match="can be written by others"):
        cache.plan(engine)
    path.chmod(0o600)
    assert cache.find(KEY) == engine
    path.rename(cache.root / "elsewhere")
    path.symlink_to(cache.root / "elsewhere")
    with pytest.raises(EngineMismatchError, match="an engine is code"):
        cache.plan(engine)
