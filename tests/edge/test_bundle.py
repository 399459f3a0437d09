"""A bundle is the same bytes from the same inputs, and a reader refuses everything else."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd import manifest as manifests
from edge_asd.errors import BundleError
from edge_asd.front_end import FrontEnd
from edge_asd.model import InputScaling
from made_up import some_bundle

Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def content() -> bytes:
    return bundles.encode(some_bundle())


def unzipped(content: bytes) -> Contents:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_manifest(content: bytes, change: Callable[[dict], None]) -> bytes:  # type: ignore[type-arg]
    contents = unzipped(content)
    stated = json.loads(contents["manifest.json"])
    change(stated)
    return bundles.pack({**contents, "manifest.json": json.dumps(stated).encode()})


def test_reads_what_was_written(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fan.easd"
    bundles.write(path, some_bundle())
    assert path.read_bytes() == content
    read, written = bundles.read(path), some_bundle()
    assert read.manifest.machine == "fan"
    assert read.manifest.front_end == FrontEnd()
    assert read.manifest.input_scaling == InputScaling(-30.0, 12.5)
    assert read.model == written.model
    assert read.banks["00"]["embedding"].clips == ("a.wav", "b.wav", "c.wav")
    for array in ("codes", "axes"):
        ours, theirs = (getattr(one.banks["00"]["embedding"], array) for one in (read, written))
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(read.golden_embedding, written.golden_embedding)
    assert set(read.manifest.entries) == set(unzipped(content)) - {"manifest.json"}


def test_the_same_inputs_give_the_same_bytes(content: bytes) -> None:
    used = some_bundle()
    used.manifest.front_end.log_mel(np.zeros(2000, np.float32))  # computes the window and the filters
    assert bundles.encode(used) == content == bundles.encode(bundles.decode(content, "again"))


def test_every_entry_is_stored_and_knows_no_time(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)


def refused(content: bytes) -> str:
    with pytest.raises(BundleError) as refusal:
        bundles.decode(content, "fan.easd")
    message = str(refusal.value)
    assert message.startswith("fan.easd: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(content: bytes, share: float) -> None:
    assert "damaged or not a bundle" in refused(content[: int(share * len(content))])


def test_every_single_byte_counts(content: bytes) -> None:
    random = np.random.default_rng(0)
    for position in random.integers(0, len(content), 400):
        altered = bytearray(content)
        altered[position] ^= 1 << random.integers(8)
        if altered != content:
            with pytest.raises(BundleError):
                _same_or_refused(bytes(altered), content)


def _same_or_refused(altered: bytes, content: bytes) -> None:
    """Bits of the zip's own bookkeeping (times, attributes) carry nothing; all that is read must be as it was."""
    if unzipped_quietly(altered) == unzipped(content):
        raise BundleError("nothing of the content changed")
    bundles.decode(altered, "fan.easd")


def unzipped_quietly(content: bytes) -> Contents | None:
    try:
        return unzipped(content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeDecodeError, ValueError, EOFError, OSError):
        return None


def test_a_wrong_hash(content: bytes) -> None:
    contents = unzipped(content)
    assert "model.tflite is not what the manifest says (SHA-256)" in refused(
        bundles.pack({**contents, "model.tflite": b"x" + contents["model.tflite"][1:]})
    )


def test_an_extra_entry(content: bytes) -> None:
    assert "an entry 'notes.txt', which no bundle has" in refused(
        bundles.pack({**unzipped(content), "notes.txt": b"hello"})
    )


def test_a_bank_that_the_manifest_does_not_know(content: bytes) -> None:
    contents = unzipped(content)
    assert "bank/01.embedding.axes.npy is there, but its manifest doesn't list it" in refused(
        bundles.pack({**contents, "bank/01.embedding.axes.npy": contents["bank/00.embedding.axes.npy"]})
    )


@pytest.mark.parametrize(
    "name",
    [
        "bank/00.embedding.codes.npy",
        "bank/00.embedding.axes.npy",
        "bank/00.embedding.json",
        "golden.wav",
        "golden.npy",
        "sbom.json",
    ],
)
def test_a_missing_entry(content: bytes, name: str) -> None:
    contents = unzipped(content)
    del contents[name]
    assert f"{name} is missing" in refused(bundles.pack(contents))


def test_a_missing_manifest(content: bytes) -> None:
    contents = unzipped(content)
    del contents["manifest.json"]
    assert "no manifest.json" in refused(bundles.pack(contents))


def test_a_missing_bank_of_a_section_that_the_manifest_promises(content: bytes) -> None:
    def promise(stated: dict) -> None:  # type: ignore[type-arg]
        stated["sections"]["01"] = stated["sections"]["00"]

    assert "doesn't list bank/01.embedding.axes.npy, which every bundle has" in refused(with_manifest(content, promise))


@pytest.mark.parametrize(
    "name",
    [
        "../evil.npy",
        "bank/../../evil.npy",
        "/etc/passwd",
        "bank/.npy",
        "bank/.embedding.json",
        "bank/00.json",
        "bank/00.loudness.json",
        "bank/00.embedding.json.exe",
        "bank/a/b.embedding.json",
        "bank\\00.embedding.json",
        "BANK/00.embedding.json",
    ],
)
def test_a_name_that_leads_elsewhere(content: bytes, name: str) -> None:
    assert "which no bundle has" in refused(bundles.pack({**unzipped(content), name: b"x"}))


def test_a_name_twice(content: bytes) -> None:
    contents = unzipped(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(zipfile.ZipInfo("sbom.json"), b"{}")
    assert "the same entry twice" in refused(file.getvalue())


def test_a_huge_declared_size(content: bytes) -> None:
    altered = bytearray(content)
    central = altered.rindex(b"PK\x01\x02")
    struct.pack_into("<II", altered, central + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    assert "claims 4294967280 bytes, the limit is" in refused(bytes(altered))


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "huge.easd"
    with path.open("wb") as file:
        file.truncate(bundles.LARGEST_BUNDLE + 1)
    with pytest.raises(BundleError, match="larger than 64 MiB"):
        bundles.read(path)


def test_an_array_whose_header_lies_about_its_size(content: bytes) -> None:
    for name, shape in (("bank/00.embedding.codes.npy", (10**12, 3)), ("golden.npy", (10**15,))):
        dtype = "<i2" if name.startswith("bank") else "<f4"
        lie = io.BytesIO()
        np.lib.format.write_array_header_1_0(lie, {"descr": dtype, "fortran_order": False, "shape": shape})
        assert f"{name} is not an array that can be read" in refused(replaced(content, name, lie.getvalue()))


@pytest.mark.parametrize("text", ["{'descr': (", "-" * 9000 + "1", "{'descr': '<f4'" + "," * 3, "[" * 9000, "\x00"])
def test_an_array_whose_header_is_no_header(content: bytes, text: str) -> None:
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    assert "golden.npy is not an array that can be read" in refused(replaced(content, "golden.npy", header))


def test_a_golden_clip_that_is_too_short(tiny_bundle: Path) -> None:
    whole = bundles.read(tiny_bundle)
    short = io.BytesIO()
    soundfile.write(short, golden.waveform(whole)[:100], 16000, format="WAV")
    with pytest.raises(BundleError, match=r"golden\.wav can't be scored \(too short"):
        golden.check(dataclasses.replace(whole, golden_wav=short.getvalue()))


def test_an_array_of_objects_is_never_unpickled(content: bytes) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "not an array that can be read" in refused(replaced(content, "golden.npy", file.getvalue()))


def replaced(content: bytes, name: str, data: bytes) -> bytes:
    """The bundle with another entry under a name, its hash put right."""
    contents = {**unzipped(content), name: data}
    stated = json.loads(contents["manifest.json"])
    stated["entries"][name] = {"bytes": len(data), "sha256": bundles._sha256(data)}
    return bundles.pack({**contents, "manifest.json": json.dumps(stated).encode()})


def test_a_future_format_version(content: bytes) -> None:
    def later(stated: dict) -> None:  # type: ignore[type-arg]
        stated.update(format_version=6, something_new=True)

    message = refused(with_manifest(content, later))
    assert "format version 6, this program reads version 5" in message
    assert "update edge-asd" in message


def test_a_later_program_needed(content: bytes) -> None:
    message = refused(with_manifest(content, lambda stated: stated.update(minimum_runtime="99.0.0")))
    assert "needs edge-asd 99.0.0 or later" in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"machine": 7}, "machine"),
        ({"machine": "../../etc/fan"}, "found '../../etc/fan'"),
        ({"surprise": 1}, "surprise"),
        ({"sections": {}}, "sections"),
        ({"dimensions": 0}, "dimensions"),
        ({"windows": {"frames": 8, "hop": 9}}, "windows"),
        ({"front_end": {"hop": 4096}}, "front_end"),
        ({"input_scaling": {"mean": 0.0, "std": 0.0}}, "input_scaling"),
        ({"data_fingerprint": "abc"}, "data_fingerprint"),
        ({"golden": {"section": "09", "score": 1.0, "runtime": "", "tolerance": 0.1}}, "section '09'"),
        ({"golden": {"section": "00", "score": 1.0, "runtime": "", "tolerance": 1e9}}, "tolerance"),
        ({"minimum_runtime": "0.1.0 or so"}, "minimum_runtime"),
        ({"minimum_runtime": "9" * 5000}, "minimum_runtime"),
        ({"minimum_runtime": "0.1.0\n"}, "minimum_runtime"),
        ({"made": -1}, "made"),
        ({"made": 1.5}, "made"),
        ({"made": "2026-11-22"}, "made"),
        ({"made": 253_402_300_800}, "made"),  # the year 10000, which no calendar of Python's has
    ],
)
def test_a_manifest_that_can_not_be(content: bytes, change: dict[str, object], says: str) -> None:
    message = refused(with_manifest(content, lambda stated: stated.update(change)))
    assert "manifest.json is not valid" in message
    assert says in message


@pytest.mark.parametrize(
    ("where", "says"),
    [("front_end", "front_end lacks the key `hop`"), ("windows", "windows lacks the key `hop`")],
)
def test_a_manifest_that_leaves_something_to_be_guessed(content: bytes, where: str, says: str) -> None:
    assert says in refused(with_manifest(content, lambda stated: stated[where].pop("hop")))


def test_a_manifest_that_knows_more_than_we_do(content: bytes) -> None:
    message = refused(with_manifest(content, lambda stated: stated["front_end"].update(dither=1)))
    assert "front_end has no key `dither`" in message


def test_a_manifest_that_is_no_json(content: bytes) -> None:
    assert "manifest.json is not valid" in refused(bundles.pack({**unzipped(content), "manifest.json": b"\xff{"}))


@pytest.mark.parametrize("section", ["", "a/b", "..", "x" * 33, "ü"])
def test_a_section_name_that_is_none(content: bytes, section: str) -> None:
    def rename(stated: dict) -> None:  # type: ignore[type-arg]
        stated["sections"] = {section: stated["sections"]["00"]}
        stated["golden"]["section"] = section

    assert "the name of a machine or section is" in refused(with_manifest(content, rename))


def test_a_compressed_entry(content: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in unzipped(content).items():
            archive.writestr(name, data)
    assert "compressed or encrypted" in refused(file.getvalue())


@pytest.mark.parametrize("where", ["before", "between", "behind", "comment"])
def test_bytes_that_belong_to_no_entry(content: bytes, where: str) -> None:
    if where == "before":
        hidden = b"#!/bin/sh\n" + content
    elif where == "between":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in unzipped(content).items():
                archive.writestr(zipfile.ZipInfo(name), data)
                archive.start_dir += 7  # where the next entry goes
        hidden = file.getvalue()
    elif where == "behind":
        hidden = content + b"payload"
    else:
        hidden = content[:-2] + struct.pack("<H", 7) + b"payload"
    assert "bytes that belong to no entry" in refused(hidden)


def test_a_bank_that_is_not_finite(content: bytes) -> None:
    axes = io.BytesIO()
    np.save(axes, np.full((3, 320), np.nan, np.float16))
    assert "finite" in refused(replaced(content, "bank/00.embedding.axes.npy", axes.getvalue()))


@pytest.mark.parametrize("codes", [np.zeros((3, 3), np.float32), np.zeros((3, 3), ">i2"), np.zeros((3, 3), np.int64)])
def test_a_bank_of_other_numbers(content: bytes, codes: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, codes)
    assert "expected |i1 or <i2" in refused(replaced(content, "bank/00.embedding.codes.npy", file.getvalue()))


@pytest.mark.parametrize(("shape", "said"), [((4, 3), "expected (3, 3)"), ((3, 2), "expected (3, 3)")])
def test_a_bank_of_another_shape(content: bytes, shape: tuple[int, int], said: str) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.int16))
    assert said in refused(replaced(content, "bank/00.embedding.codes.npy", file.getvalue()))


def test_a_bank_without_names(content: bytes) -> None:
    name = "bank/00.embedding.json"
    for text in (b'["a.wav"]', b'{"scale": 1.0, "clips": ["a.wav"]}', b'{"scale": 0.0, "clips": ["a", "b", "c"]}'):
        assert f"{name} does not describe the bank" in refused(replaced(content, name, text))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be read"):
        bundles.read(tmp_path / "none.easd")


def test_the_manifest_in_the_documentation_is_one(content: bytes) -> None:
    page = Path(__file__).parents[2] / "docs" / "bundle.md"
    fields = set(json.loads(unzipped(content)["manifest.json"]))
    text = page.read_text()
    assert f"# The bundle, format version {manifests.FORMAT_VERSION}\n" in text
    for field in fields:
        assert f"`{field}`" in text, f"docs/bundle.md doesn't describe {field}"
