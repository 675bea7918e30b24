"""Photos in tar shards: learned from as if they lay in a folder, and read where they lie."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from invdiff.io.decoding import list_members, load
from invdiff.training.crops import PhotoCrops, find_photos


def pack(path, files, layout=tarfile.PAX_FORMAT, mode="w"):
    """A shard of files by name, in the order given."""
    with tarfile.open(path, mode, format=layout) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def crops_of(*places):
    found, _ = find_photos([str(place) for place in places])
    return PhotoCrops(found, 32, (0.7, 1.0), seed=3).batch(range(12))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_crops_are_those_of_the_same_photos_in_a_folder(photos, picture, tmp_path, layout):
    """Whatever the order in the shard, with folders, long names, labels beside them and ``./`` before them."""
    picture(f"{'n' * 90}.png", 41, 44, seed=7, folder=photos / "below")
    picture("x.tif", 40, 44, seed=8, folder=photos)
    files = contents(photos)
    shuffled = {f"./{name}": files[name] for name in reversed(files)}
    shuffled |= {"./0.cls": b"7", "./._0.png": b"a note of another system"}
    shard = pack(tmp_path / "photos.tar", shuffled, layout)
    assert torch.equal(crops_of(shard), crops_of(photos))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "photos.tar"]  # nothing is extracted


def test_several_shards_by_folder_and_by_pattern(photos, tmp_path):
    files = contents(photos)
    shards = tmp_path / "shards"
    shards.mkdir()
    for i, (name, content) in enumerate(files.items()):
        pack(shards / f"{i:03}.tar", {name: content})
    whole = crops_of(photos)
    assert torch.equal(crops_of(shards), whole)
    assert torch.equal(crops_of(shards / "*.tar"), whole)
    assert torch.equal(crops_of(*sorted(shards.iterdir())), whole)
    assert not torch.equal(crops_of(shards / "000.tar"), whole)


def test_a_folder_with_photos_and_shards_gives_both(photos, tmp_path):
    pack(photos / "more.tar", {"later.png": (photos / "0.png").read_bytes()})
    found, _ = find_photos([str(photos)])
    assert [str(one).removeprefix(str(photos)) for one in found] == [
        "/0.png",
        "/1.png",
        "/2.png",
        "/more.tar: later.png",
    ]


def test_deep_and_turned_photos_are_decoded_as_files_are(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    import tifffile

    tifffile.imwrite(tmp_path / "deep.tif", np.stack([ramp] * 3, -1), photometric="rgb")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((ramp[:20] >> 8).astype(np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    shard = pack(tmp_path / "photos.tar", contents(tmp_path))
    members, _ = list_members(shard)
    assert [m.name for m in members] == ["deep.png", "deep.tif", "turned.jpg"]
    for member in members:
        assert torch.equal(load(member).pixels, load(tmp_path / member.name).pixels)


def test_a_run_on_a_shard_is_that_on_the_folder(cli, training, photos, train, tmp_path):
    from safetensors.torch import load_file

    shard = pack(tmp_path / "photos.tar", contents(photos))
    train("folder", steps=3)
    done = cli("train", training, "-o", tmp_path / "shard", "--data", shard, "--quiet", "--set", "train.steps=3")
    assert (done.code, done.err) == (0, "")
    one, other = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("folder", "shard"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_broken_photo_costs_a_line_with_shard_and_name(cli, training, photos, tmp_path):
    files = contents(photos) | {"1b.png": b"not a picture", "0c.jpg": b""}
    shard = pack(tmp_path / "photos.tar", files)
    done = cli("train", training, "-o", tmp_path / "run", "--data", shard, "--set", "train.steps=6")
    assert done.code == 0, done.err
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    for name in ("1b.png", "0c.jpg"):
        assert any(f"left out: {shard}: {name}: not a picture that can be read" in line for line in failed)


def test_links_and_devices_are_counted_and_never_followed(cli, training, photos, tmp_path):
    shard = pack(tmp_path / "photos.tar", contents(photos))
    with tarfile.open(shard, "a") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(photos / "0.png")
            archive.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    members, odd = list_members(shard)
    assert ([m.name for m in members], odd) == (["0.png", "1.png", "2.png"], 3)
    done = cli("train", training, "-o", tmp_path / "run", "--data", shard, "--set", "train.steps=1")
    assert f"{shard}: passed over 3 links or other members that are no plain files" in done.err


def test_of_two_members_of_one_name_the_last_counts(photos, tmp_path):
    """As it would be once unpacked."""
    shard = pack(tmp_path / "photos.tar", contents(photos))
    pack(shard, {"0.png": (photos / "2.png").read_bytes()}, mode="a")
    members, _ = list_members(shard)
    assert len(members) == 3
    assert torch.equal(load(members[0]).pixels, load(photos / "2.png").pixels)


def test_names_that_climb_are_only_names(photos, tmp_path):
    shard = pack(tmp_path / "photos.tar", {"../../etc/x.png": (photos / "0.png").read_bytes()})
    (member,), _ = list_members(shard)
    assert torch.equal(load(member).pixels, load(photos / "0.png").pixels)


def test_files_that_are_no_shard(refused, training, photos, tmp_path):
    def message(place):
        return refused("train", training, "--data", place, "-o", tmp_path / "run")

    whole = pack(tmp_path / "whole.tar", contents(photos)).read_bytes()
    for kind in ("gz", "bz2", "xz"):
        path = pack(tmp_path / f"photos.tar.{kind}", contents(photos), mode=f"w:{kind}")
        assert message(path) == (
            f"{path}: compressed: its photos cannot be read where they lie; unpack it to a plain .tar"
        )
    for name, content in (
        ("empty.tar", b""),
        ("noise.tar", bytes(range(256)) * 40),
        ("cut.tar", whole[:2000]),
        ("cut_head.tar", whole[: 512 + 300]),
        ("photo.jpg", (photos / "0.png").read_bytes()),
    ):
        (tmp_path / name).write_bytes(content)
        assert message(tmp_path / name).startswith(f"{tmp_path / name}: not a tar of photos that can be read (")
    labels = pack(tmp_path / "labels.tar", {"0.cls": b"1"})
    assert message(labels).startswith(f"{labels}: no pictures in this shard (")
    assert message(tmp_path / "none-*.tar").startswith(f"{tmp_path / 'none-*.tar'}: no such folder or .tar")


def test_a_broken_header_between_members_is_not_taken_for_the_end(photos, tmp_path):
    shard = pack(tmp_path / "photos.tar", contents(photos), tarfile.USTAR_FORMAT)
    with tarfile.open(shard) as archive:
        second = archive.getmembers()[1].offset
    damaged = bytearray(shard.read_bytes())
    damaged[second + 5] ^= 0xFF
    shard.write_bytes(damaged)
    from invdiff.errors import ImageError

    with pytest.raises(ImageError, match="bad header between its members"):
        list_members(shard)


def test_a_size_below_nothing_ends(photos, tmp_path):
    """GNU's binary numbers can say it; a reader that believes them goes in a circle."""
    info = tarfile.TarInfo("a.png")
    info.size = -1024
    (tmp_path / "circle.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    from invdiff.errors import ImageError

    with pytest.raises(ImageError, match="not a tar of photos"):
        list_members(tmp_path / "circle.tar")
