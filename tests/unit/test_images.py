import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.image_files import encoded, exif, tiff
from vouch.errors import InvalidInput
from vouch.formats import images
from vouch.formats.intensity import IntensityWindow


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(kind, orientation):
    stated = Image.Exif()
    stated[0x0112] = orientation
    data = encoded(Image.fromarray(noise(16, 24)), kind, exif=stated)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(images.decode(data), np.asarray(upright))


ROTATED = (0x112, 3, 1, 6)


@pytest.mark.parametrize(
    ("entries", "turned"),
    [
        ([ROTATED], True),
        ([ROTATED, (0x11A, 7, 8, bytes(8))], True),  # a resolution that is no fraction
        ([ROTATED, (0x11A, 5, 1, bytes(8))], True),  # 0/0
        ([ROTATED, (0x8769, 4, 1, 8)], True),  # a directory inside itself
        ([ROTATED, (0x9286, 5, 1, struct.pack("<II", 1, 3))], True),
        ([(0x112, 2, 2, 54)], False),  # the text "6"
        ([(0x112, 11, 1, struct.pack("<f", 6.0))], False),
        ([(0x112, 3, 1, 9)], False),
    ],
)
def test_sound_pixels_are_read_whatever_their_exif_holds(entries, turned):
    data = encoded(Image.fromarray(noise(16, 24)), "JPEG", exif=exif(*entries))
    assert images.decode(data).shape == ((24, 16, 3) if turned else (16, 24, 3))


def test_of_a_camera_picture_with_another_inside_the_first_is_read():
    first, second = Image.fromarray(noise(16, 24)), Image.new("RGB", (4, 4))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.array_equal(images.decode(data), images.decode(encoded(first, "JPEG")))
    assert images.inspect(data).media_type == "image/jpeg"
    stripped = data[: data.rfind(b"\xff\xd8\xff")]
    assert images.decode(stripped).shape == (16, 24, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "black"), [(8, 0xC0), (16, 0xC000)])
def test_white_is_zero_is_turned_round_in_any_depth_and_byte_order(bits, black, order):
    def shades(photometric):
        return images.decode(tiff([[0, black]], bits, photometric, order))[0, :, 0].tolist()

    assert shades(photometric=0) == [255, 255 - 0xC0]
    assert shades(photometric=1) == [0, 0xC0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_greys_of_32_bits_are_read_in_any_byte_order(order):
    data = tiff([[0, 2**31, 2**32 - 1]], 32, 1, order)
    assert images.decode(data, IntensityWindow(0, 2**32 - 1))[0, :, 0].tolist() == [0, 128, 255]


def test_signed_values_may_be_white_is_zero():
    data = with_sample_format(tiff([[0, 0xFFFF]], 16, 0), 2)  # 0 and -1
    assert images.decode(data, IntensityWindow(-1, 0))[0, :, 0].tolist() == [0, 255]


def test_a_window_says_which_greys_are_black_and_white():
    window = IntensityWindow.parse("0:4095")
    twelve = np.array([[0, 2048, 4095, 5000]], dtype=np.uint16)
    assert images.decode(encoded(Image.fromarray(twelve)), window)[0, :, 0].tolist() == [0, 128, 255, 255]
    turned = tiff(twelve.tolist(), 16, photometric=0)
    assert images.decode(turned, window)[0, :, 0].tolist() == [255, 127, 0, 0]
    assert np.array_equal(images.decode(encoded(Image.fromarray(noise())), window), noise())


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_greys_without_a_known_range_need_a_window(kind):
    data = encoded(Image.fromarray(np.array([[-1, 0, 1]], dtype=kind)), "TIFF")
    with pytest.raises(InvalidInput, match=r"from -1 to 1.*--window LOW:HIGH") as refusal:
        images.decode(data)
    assert refusal.value.reason == "UNSUPPORTED_MODE"
    assert images.decode(data, IntensityWindow(-1, 1))[0, :, 0].tolist() == [0, 128, 255]


def test_values_that_are_no_numbers_are_refused():
    data = encoded(Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)), "TIFF")
    with pytest.raises(InvalidInput, match="NaN"):
        images.decode(data, IntensityWindow(0, 1))


def test_only_deep_images_are_written_anew_for_a_window():
    window = IntensityWindow.parse("0:4095")
    plain = encoded(Image.fromarray(noise()), "JPEG")
    assert images.windowed(plain, window) is plain
    deep = encoded(Image.fromarray(np.array([[0, 4095]], dtype=np.uint16)))
    assert images.decode(images.windowed(deep, window))[0, :, 0].tolist() == [0, 255]


def test_an_image_that_uses_a_small_part_of_its_greys_is_named():
    twelve, sixteen = (np.array([[0, most]], dtype=np.uint16) for most in (4095, 65535))
    assert "0 to 4095, a small part of 0 to 65535" in images.range_note(encoded(Image.fromarray(twelve)))
    assert "--window 0:4095" in images.range_note(encoded(Image.fromarray(twelve), "TIFF"))
    assert images.range_note(encoded(Image.fromarray(sixteen))) == ""
    assert images.range_note(encoded(Image.new("L", (4, 4), 3))) == ""


@pytest.mark.parametrize("bits", [12, 13, 14])
def test_a_hot_pixel_hides_no_dark_image(bits):
    greys = np.linspace(0, (1 << bits) - 1, 64 * 64).astype(np.uint16).reshape(64, 64)
    greys[0, 0] = 65535
    assert f"--window 0:{(1 << bits) - 1}" in images.range_note(encoded(Image.fromarray(greys)))
    colours = np.repeat(greys[:, :, None], 3, axis=2)
    assert f"as of {bits}-bit data" in images.range_note(colour_tiff(colours))


def test_values_far_from_zero_get_a_window_of_their_own():
    greys = np.array([[32000, 33000]], dtype=np.uint16)
    assert "Give --window 32000:33000" in images.range_note(encoded(Image.fromarray(greys)))


@pytest.mark.parametrize("text", ["", "1", "a:b", "5:5", "9:1", "nan:1", "0:inf", "1:2:3"])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput, match=r"LOW|window"):
        IntensityWindow.parse(text)


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", [255, 0, 0]),
        (Image.new("1", (2, 2), 1), "PNG", [255, 255, 255]),
        (Image.new("LA", (2, 2), (0, 0)), "PNG", [255, 255, 255]),
        (Image.new("P", (2, 2), 0), "GIF", [0, 0, 0]),
        (Image.new("YCbCr", (2, 2), (255, 128, 128)), "JPEG", [255, 255, 255]),
    ],
)
def test_other_colour_modes_become_rgb(image, kind, colour):
    assert images.decode(encoded(image, kind))[0, 0].tolist() == colour


def test_a_transparent_colour_of_a_palette_lies_over_white():
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    data = encoded(palette, "PNG", transparency=0)
    assert images.decode(data)[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_an_image_taller_than_a_stripe_is_whole():
    pixels = noise(images.STRIPE_ROWS + 3, 4)
    assert np.array_equal(images.decode(encoded(Image.fromarray(pixels))), pixels)


def test_a_thumbnail_inside_a_tiff_is_no_picture_of_its_own():
    picture, small = Image.fromarray(noise(16, 24)), Image.new("RGB", (4, 4), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = encoded(picture, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(images.decode(data), noise(16, 24))
    with pytest.raises(InvalidInput, match="2 frames"):
        images.decode(encoded(picture, "TIFF", save_all=True, append_images=[picture]))


def test_twelve_bits_of_a_packed_tiff_keep_their_upper_eight():
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF7, 0xFF])  # 0, 0x800; 0xFFF, 0x7FF
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 2), (279, 6)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + packed
    assert images.decode(data)[..., 0].tolist() == [[0, 0x80], [0xFF, 0x7F]]


def test_colours_of_twelve_bits_in_a_file_of_sixteen_are_named():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, row = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), b"\0" + struct.pack(">3H", 4095, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert "at most 15 of 255" in images.range_note(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_the_largest_picture_costs_little_more_than_its_pixels(tmp_path, mode):
    """48 MB of pixels, and the at most 64 MB that Pillow holds of the same: one whole copy more would be too much."""
    Image.new(mode, (4000, 4000)).save(tmp_path / "large.png")
    Image.new(mode, (8, 8)).save(tmp_path / "small.png")
    script = """
import pathlib, sys
from vouch.formats import images

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


def colour_tiff(values):
    """An uncompressed TIFF of 16-bit colours uint16 [H, W, 3]."""
    height, width, _ = values.shape
    bits, data = struct.pack("<3H", 16, 16, 16), values.astype("<u2").tobytes()
    behind = 8 + 2 + 9 * 12 + 4
    tags = [(256, 1, width), (257, 1, height), (258, 3, behind), (259, 1, 1), (262, 1, 2)]
    tags += [(273, 1, behind + len(bits)), (277, 1, 3), (278, 1, height), (279, 1, len(data))]
    kinds = {258: 3}
    directory = b"".join(struct.pack("<HHII", tag, kinds.get(tag, 4), n, value) for tag, n, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + bits + data


@pytest.mark.parametrize(("highest", "noted"), [(4095, True), (65535, False)])
def test_colours_of_12_bits_in_a_16_bit_tiff_are_named_as_nearly_black(highest, noted):
    data = colour_tiff(np.linspace(0, highest, 8 * 8 * 3).reshape(8, 8, 3))

    assert images.decode(data).max() == highest >> 8
    assert ("at most 15 of 255" in images.range_note(data)) is noted


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"II+\0\x08\0\0\0" + bytes(60), "BigTIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(60), "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
    ],
)
def test_formats_that_are_not_read_are_named(data, name):
    with pytest.raises(InvalidInput, match=f"{name} images are not read. Convert it to PNG or TIFF."):
        images.decode(data)


def frame_header(data, marker, precision):
    """The JPEG with another kind of frame, of `precision` bits."""
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([marker]) + data[at + 2 : at + 4] + bytes([precision]) + data[at + 5 :]


@pytest.mark.parametrize(
    ("marker", "precision", "name"),
    [
        (0xC1, 12, "12-bit JPEG"),
        (0xC3, 8, "Lossless JPEG"),
        (0xF7, 8, "JPEG-LS"),
        (0xC5, 8, "Hierarchical JPEG"),
    ],
)
def test_kinds_of_jpeg_that_are_not_read_are_named_and_not_called_damaged(marker, precision, name):
    data = frame_header(encoded(Image.fromarray(noise()), "JPEG"), marker, precision)
    with pytest.raises(InvalidInput, match=f"^{name} images are not read"):
        images.decode(data)


def test_a_tiff_of_an_unread_kind_is_named_and_not_called_damaged():
    double = tiff([[1, 2]], 16, 1).replace(
        struct.pack("<HHII", 258, 4, 1, 16), struct.pack("<HHII", 258, 4, 1, 64)
    )
    with pytest.raises(InvalidInput, match=r"This kind of TIFF is not read \(64 bits unsigned, photometric"):
        images.decode(double)
    with pytest.raises(InvalidInput, match="This TIFF is damaged: its directory"):
        images.decode(double[:20])


def with_sample_format(data, kind):
    """The TIFF with its last tag (StripByteCounts, which Pillow works out) made a SampleFormat."""
    at = 8 + 2 + 8 * 12
    return data[:at] + struct.pack("<HHII", 339, 3, 1, kind) + data[at + 12 :]


def test_signed_values_of_8_bits_are_refused_and_not_wrapped_round():
    with pytest.raises(InvalidInput, match="signed values of 8 bits"):
        images.decode(with_sample_format(tiff([[1, 255]], 8, 1), 2))
