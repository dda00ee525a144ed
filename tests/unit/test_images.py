import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vouch import images
from vouch.errors import InvalidInput


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height=5, width=7):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_bomb(width, height):
    """A PNG whose header claims this size; its pixels would take gigabytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_png_gives_the_same_pixels_and_the_same_digest_every_time():
    pixels = noise()
    data = images.encode_png(pixels)

    assert np.array_equal(images.decode(data), pixels)
    assert images.encode_png(pixels[:, ::-1][:, ::-1]) == data  # memory order is not part of the picture
    assert images.digest(data) == images.digest(images.encode_png(pixels))


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("GIF", "image/gif"),
    ],
)
def test_the_usual_kinds_are_read(kind, media_type):
    data = encoded(Image.fromarray(noise()), kind)

    info = images.inspect(data)
    assert (info.width, info.height, info.media_type) == (7, 5, media_type)
    assert images.decode(data).shape == (5, 7, 3)


def test_transparency_lies_over_white():
    assert images.decode(encoded(Image.new("RGBA", (1, 1), (200, 0, 0, 0)))).tolist() == [[[255, 255, 255]]]


def test_sixteen_bit_greys_keep_their_upper_half():
    grey = Image.fromarray(np.array([[0, 0x80FF, 0xFFFF]], dtype=np.uint16))
    assert images.decode(encoded(grey))[0, :, 0].tolist() == [0, 0x80, 0xFF]


def test_a_rotation_stated_in_exif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).shape == (8, 4, 3)


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1", b"\x80\x04\x95pickle", b"RIFF\x00\x00\x00\x00WAVE", b"%PDF-1.7"]
)
def test_bytes_that_are_no_image_are_refused_with_what_would_do(data):
    with pytest.raises(InvalidInput, match="PNG, JPEG") as refusal:
        images.decode(data)
    assert refusal.value.reason == "NOT_AN_IMAGE"


def test_a_hundred_megapixel_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(InvalidInput, match="10000 × 10000 pixels; at most 16 megapixels"):
        images.decode(png_bomb(10_000, 10_000))


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (0, 4)])
def test_absurd_sizes_are_refused(size):
    with pytest.raises(InvalidInput):
        images.decode(png_bomb(*size))


def test_sixteen_megapixels_are_the_last_accepted():
    assert images.inspect(png_bomb(4000, 4000)).width == 4000
    with pytest.raises(InvalidInput):
        images.inspect(png_bomb(4000, 4001))


def test_a_file_above_sixteen_mebibytes_is_refused_without_a_look_inside():
    with pytest.raises(InvalidInput, match="16 MiB"):
        images.decode(b"\x89PNG\r\n\x1a\n" + bytes(images.MAX_BYTES))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_is_refused(kind):
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(InvalidInput):
        images.decode(data[: len(data) // 2])


def test_several_frames_are_refused():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    with pytest.raises(InvalidInput, match="2 frames"):
        images.decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_only_rgb_bytes_are_encoded(pixels):
    with pytest.raises(InvalidInput, match=r"uint8 \[H, W, 3\]"):
        images.encode_png(pixels)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]))
def test_damage_anywhere_gives_pixels_or_a_sentence_and_nothing_else(data, kind):
    whole = bytearray(encoded(Image.fromarray(noise()), kind))
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        whole[position] = data.draw(st.integers(0, 255))
    try:
        assert images.decode(bytes(whole[: data.draw(st.integers(1, len(whole)))])).dtype == np.uint8
    except InvalidInput as error:
        assert len(error.message) < 500


def test_a_larger_image_is_cut_from_the_middle_and_scaled():
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 15:45] = 200
    found = images.fitted(pixels, 10, 10)

    assert found.shape == (10, 10, 3)
    assert (found == 200).all()


def test_an_image_of_the_size_asked_for_is_as_it_was():
    assert images.fitted(noise(5, 7), 7, 5) is not None
    assert np.array_equal(images.fitted(noise(5, 7), 7, 5), noise(5, 7))


@pytest.mark.parametrize("size", [(8, 5), (7, 6)])
def test_a_smaller_image_is_not_enlarged(size):
    with pytest.raises(InvalidInput, match="7 × 5 pixels"):
        images.fitted(noise(5, 7), *size)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_the_largest_picture_costs_little_more_than_its_pixels(tmp_path, mode):
    """48 MB of pixels, and the at most 64 MB that Pillow holds of the same: one whole copy more would be too much."""
    Image.new(mode, (4000, 4000)).save(tmp_path / "large.png")
    Image.new(mode, (8, 8)).save(tmp_path / "small.png")
    script = """
import pathlib, sys
from vouch import images

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024

folder = pathlib.Path(sys.argv[1])
images.decode((folder / "small.png").read_bytes())
before = peak()
images.decode((folder / "large.png").read_bytes())
print(peak() - before)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 40 < int(done.stdout) < 48 + 64 + 20
