"""DICOM files as images. The oracle of the pixels is pydicom's own processing, brought to 8 bits."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom")

from pydicom import uid as uids  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array  # noqa: E402

from tests.dicom_files import IDENTIFYING, PATIENT, compressed, dicom, lut, write  # noqa: E402
from vouch.datasets.dicom import DicomImage, read_dicom  # noqa: E402
from vouch.errors import FailedPrecondition, InvalidInput  # noqa: E402
from vouch.formats.intensity import IntensityWindow  # noqa: E402

SALT = b"salt"
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095: 12 bits


def read(made: pydicom.FileDataset, folder: Path, window: IntensityWindow | None = None) -> DicomImage:
    return read_dicom(write(made, folder / "image.dcm"), SALT, window)


def pixels(image: DicomImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.data)))


def oracle(path: Path) -> np.ndarray:
    """pydicom's modality and VOI processing, over the range that its result can have, as 0 to 255."""
    header = pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(pixel_array(header), header), header).astype(float)
    if header.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif header.get("ModalityLUTSequence"):
        low, high = 0.0, 2.0 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        bits, slope = header.BitsStored, float(header.get("RescaleSlope", 1))
        shift = float(header.get("RescaleIntercept", 0))
        signed = header.PixelRepresentation == 1
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        low, high = low * slope + shift, high * slope + shift
    grey = (shown - low) / (high - low) * 255
    return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(
    ("values", "elements"),
    [
        (RAMP, {"stored": 12, "WindowCenter": 2000, "WindowWidth": 1500}),
        (RAMP, {"stored": 16, "WindowCenter": 1800.5, "WindowWidth": 333.3}),
        ((RAMP % 256).astype(np.uint8), {"WindowCenter": 100, "WindowWidth": 120}),
        (
            RAMP.astype(np.int16) - 2048,
            {
                "stored": 16,
                "RescaleSlope": 2,
                "RescaleIntercept": -100,
                "WindowCenter": 40,
                "WindowWidth": 400,
            },
        ),
        (RAMP, {"stored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": [40, -600],
                "WindowWidth": [400, 1500]}),
    ],
)  # fmt: skip
def test_a_window_shows_what_pydicom_shows(values, elements, function, photometric, tmp_path: Path) -> None:
    image = read(dicom(values, photometric=photometric, VOILUTFunction=function, **elements), tmp_path)
    expected = oracle(tmp_path / "image.dcm")
    assert np.ptp(expected) > 200
    # pydicom rounds nothing, and its range for 8 bits ends where ours does: half a grey level apart at most.
    np.testing.assert_allclose(pixels(image), expected, atol=0.51)
    assert image.notes == ()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_tables_show_what_pydicom_shows(photometric: str, tmp_path: Path) -> None:
    curve = [int(255 * (n / 1023) ** 0.5) for n in range(1024)]
    made = dicom(RAMP % 1024, photometric=photometric, stored=12, VOILUTSequence=[lut(curve, 0, 8)],
                 WindowCenter=5, WindowWidth=2)  # fmt: skip
    shown = pixels(read(made, tmp_path))
    np.testing.assert_allclose(shown, oracle(tmp_path / "image.dcm"), atol=0.51)  # and not the window
    ordered = [1023 - n for n in range(1024)]
    made = dicom(RAMP % 1024, photometric=photometric, stored=10, ModalityLUTSequence=[lut(ordered, 0, 16)],
                 WindowCenter=512, WindowWidth=1023)  # fmt: skip
    np.testing.assert_allclose(pixels(read(made, tmp_path)), oracle(tmp_path / "image.dcm"), atol=0.51)


def dataset(**elements: object) -> pydicom.Dataset:
    made = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
def test_an_enhanced_file_of_one_frame_looks_like_a_plain_one(syntax: str, tmp_path: Path) -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    window = {"WindowCenter": 40, "WindowWidth": 400}
    shared = dataset(
        PixelValueTransformationSequence=[dataset(**rescale)],
        FrameVOILUTSequence=[dataset(WindowCenter=0, WindowWidth=10)],
    )
    own = dataset(FrameVOILUTSequence=[dataset(**window)])
    enhanced = dicom(RAMP, stored=12, NumberOfFrames=1, SharedFunctionalGroupsSequence=[shared],
                     PerFrameFunctionalGroupsSequence=[own])  # fmt: skip
    enhanced.file_meta.TransferSyntaxUID = syntax
    plain = read(dicom(RAMP, stored=12, **rescale, **window), tmp_path)
    image = read(enhanced, tmp_path / "enhanced")
    assert (pixels(image) == pixels(plain)).all()
    assert image.notes == ()
    hounsfield = IntensityWindow(-160, 240)
    given = read(enhanced, tmp_path / "enhanced", hounsfield)
    assert (pixels(given) == pixels(read(dicom(RAMP, stored=12, **rescale), tmp_path, hounsfield))).all()


def test_implicit_value_representations_read_alike(tmp_path: Path) -> None:
    values = RAMP.astype(np.int16) - 2000
    made = dicom(
        values, RescaleSlope=1, RescaleIntercept=0, WindowCenter=0, WindowWidth=3000, PixelPaddingValue=-2000
    )
    explicit = pixels(read(made, tmp_path))
    made.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian
    assert (pixels(read(made, tmp_path / "again")) == explicit).all()
    assert explicit[0, 0] == 0


def test_padding_is_black_and_does_not_stretch_the_range(tmp_path: Path) -> None:
    values = (RAMP % 100 + 1000).astype(np.int16)
    values[:8] = -2000
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        shown = pixels(read(dicom(values, photometric=kind, PixelPaddingValue=-2000), tmp_path))
        assert (shown[:8] == 0).all()
        assert shown[8:].min() == 0 and shown[8:].max() == 255
    span = dicom(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=1050)
    assert (pixels(read(span, tmp_path))[values <= 1050] == 0).all()


def test_without_a_window_the_image_spans_black_to_white_and_says_so(tmp_path: Path) -> None:
    image = read(dicom(RAMP // 8 + 700, stored=12), tmp_path)
    shown = pixels(image)
    assert (shown.min(), shown.max()) == (0, 255)
    assert "--window" in image.notes[0]


def test_a_given_window_takes_the_place_of_the_files(tmp_path: Path) -> None:
    made = dicom(RAMP, stored=12, RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400)
    shown = pixels(read(made, tmp_path, IntensityWindow(-1000, 3095)))
    np.testing.assert_allclose(shown, RAMP / 4095 * 255, atol=0.51)


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (-5, "SIGMOID"), (0, "LINEAR_EXACT")])
def test_a_window_without_width_is_none(width: float, function: str, tmp_path: Path) -> None:
    made = dicom(RAMP, stored=12, WindowCenter=40, WindowWidth=width, VOILUTFunction=function)
    assert pixels(read(made, tmp_path)).max() == 255


def test_a_window_of_width_one_is_a_threshold(tmp_path: Path) -> None:
    shown = pixels(read(dicom(RAMP, stored=12, WindowCenter=2048, WindowWidth=1), tmp_path))
    assert set(np.unique(shown)) == {0, 255} and (shown == 255).sum() == 2048


COLOURS = np.stack([RAMP % 256, RAMP // 16, 255 - RAMP // 16], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_colours_show_what_pydicom_shows(kind: str, tmp_path: Path) -> None:
    image = read(dicom(COLOURS, photometric=kind), tmp_path)
    expected = pixel_array(pydicom.dcmread(tmp_path / "image.dcm"))
    assert pixels(image).shape == (64, 64, 3)
    assert (pixels(image) == expected).all()
    assert (kind == "RGB") == bool((expected == COLOURS).all())


def test_colours_of_16_bits_keep_the_upper_8(tmp_path: Path) -> None:
    image = read(dicom(COLOURS.astype(np.uint16) * 257, photometric="RGB"), tmp_path)
    assert (pixels(image) == COLOURS).all()


def test_colour_planes_are_put_together(tmp_path: Path) -> None:
    made = dicom(COLOURS, photometric="RGB")
    made.PlanarConfiguration, made.PixelData = 1, COLOURS.transpose(2, 0, 1).tobytes()
    assert (pixels(read(made, tmp_path)) == COLOURS).all()


def test_a_palette_names_the_colours(tmp_path: Path) -> None:
    made = dicom((RAMP % 256).astype(np.uint8), photometric="PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        table = (np.arange(256, dtype=np.uint16) * 257 // (number + 1)).astype(np.uint16)
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", table.tobytes())
    shown = pixels(read(made, tmp_path)).astype(int)
    level = RAMP % 256
    for channel in range(3):
        np.testing.assert_allclose(shown[..., channel], level * 257 // (channel + 1) // 256, atol=1)


def test_a_jpeg_inside_is_decoded(tmp_path: Path) -> None:
    smooth = (np.add.outer(np.arange(64), np.arange(64)) * 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95)
    made = dicom(smooth, WindowCenter=128, WindowWidth=256)
    shown = pixels(read(compressed(made, buffer.getvalue(), uids.JPEGBaseline8Bit), tmp_path)).astype(int)
    assert np.abs(shown - smooth).mean() < 2


# ---- what is refused


@pytest.mark.parametrize(
    ("syntax", "plug_in"),
    [
        (uids.JPEGLosslessSV1, "pylibjpeg-libjpeg"),
        (uids.JPEGLSLossless, "pyjpegls"),
        (uids.HTJ2KLossless, "pylibjpeg-openjpeg"),
    ],
)
def test_a_compression_without_its_plug_in_is_refused_with_the_plug_ins_name(
    syntax, plug_in, tmp_path
) -> None:
    if pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip(f"a decoder of {syntax.name} is installed")
    with pytest.raises(FailedPrecondition, match=plug_in) as refused:
        read(compressed(dicom(RAMP, stored=12), b"\xff\xd8\xff\xd9", syntax), tmp_path)
    assert syntax.name in refused.value.message


def test_video_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="MPEG2 Main Profile"):
        read(
            compressed(dicom(COLOURS, photometric="YBR_FULL"), b"\0\0\1\xb3", uids.MPEG2MPML),
            tmp_path,
        )


def test_several_frames_are_refused_by_name(tmp_path: Path) -> None:
    made = dicom(RAMP.reshape(4, 16, 64)[0], sop_class=uids.EnhancedCTImageStorage, NumberOfFrames=4)
    made.PixelData = RAMP.tobytes()
    with pytest.raises(InvalidInput, match=r"Enhanced CT Image Storage.*multi-frame: it has 4 frames"):
        read(made, tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"PhotometricInterpretation": "CMYK"}, "photometric interpretation 'CMYK' is not read"),
        ({"Rows": 0}, "has 64 × 0 pixels"),
        ({"Rows": 60_000, "Columns": 60_000}, "megapixels"),
        ({"BitsAllocated": 1}, "1 bits a pixel"),
        ({"PixelData": b"too few"}, "damaged or truncated"),
    ],
)
def test_what_is_not_read_says_why(change: dict, why: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(dicom(RAMP, stored=12, **change), tmp_path)


def test_files_without_an_image_are_named_by_their_kind(tmp_path: Path) -> None:
    made = dicom(RAMP, sop_class=uids.BasicTextSRStorage)
    del made.PixelData
    with pytest.raises(InvalidInput, match=r"Basic Text SR Storage\) holds no image"):
        read(made, tmp_path)
    (tmp_path / "no.dcm").write_bytes(b"a text")
    with pytest.raises(InvalidInput, match="no DICOM file"):
        read_dicom(tmp_path / "no.dcm", SALT)


# ---- who is shown


@pytest.mark.filterwarnings("ignore")
def test_what_identifies_a_patient_is_nowhere_in_what_comes_out(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    image = read(dicom(RAMP, stored=12), tmp_path)
    told = [repr(image), *image.notes, image.patient, image.data.decode("latin-1"), caplog.text]
    cut = (tmp_path / "image.dcm").read_bytes()
    for length in range(140, 1200, 53):
        (tmp_path / "cut.dcm").write_bytes(cut[:length])
        try:
            told.append(repr(read_dicom(tmp_path / "cut.dcm", SALT)))
        except InvalidInput as error:
            told += [error.message, repr(error), str(error.__cause__)]
    assert not [value for value in IDENTIFYING for one in told if value in one]
    assert str(image.uid) not in repr(image) and image.patient not in repr(image)


def test_images_of_a_patient_are_known_by_a_salted_hash(tmp_path: Path) -> None:
    first, again = (read(dicom(RAMP, patient=name), tmp_path).patient for name in (PATIENT, f" {PATIENT} "))
    assert first == again and len(first) == 32
    assert read(dicom(RAMP, patient="another"), tmp_path).patient != first
    assert read_dicom(write(dicom(RAMP), tmp_path / "b.dcm"), b"other salt").patient != first
    assert read(dicom(RAMP, patient=""), tmp_path).patient == ""


@pytest.mark.parametrize(
    ("size", "sop_class", "said", "warned"),
    [
        (64, uids.ComputedRadiographyImageStorage, "YES", True),
        (64, uids.ComputedRadiographyImageStorage, "NO", False),
        (512, uids.SecondaryCaptureImageStorage, "", True),
        (512, uids.SecondaryCaptureImageStorage, "NO", False),
        (64, uids.SecondaryCaptureImageStorage, "", False),
        (512, uids.ComputedRadiographyImageStorage, "", False),
        (64, uids.UltrasoundImageStorage, "", True),
        (64, uids.UltrasoundImageStorage, "NO", False),
        (64, uids.UltrasoundMultiFrameImageStorage, "", True),
        (64, uids.XRayAngiographicImageStorage, "", True),
        (64, uids.XRayRadiofluoroscopicImageStorage, "", True),
        (64, uids.VLEndoscopicImageStorage, "", True),
        (64, uids.VLPhotographicImageStorage, "", True),
        (512, uids.VLPhotographicImageStorage, "NO", False),
        (512, uids.VLWholeSlideMicroscopyImageStorage, "", False),
    ],
)
def test_text_that_may_be_burned_in_is_warned_of(size, sop_class, said, warned, tmp_path: Path) -> None:
    values = np.zeros((size, size), np.uint8)
    made = dicom(values, sop_class=sop_class, WindowCenter=128, WindowWidth=256)
    if said:
        made.BurnedInAnnotation = said
    assert any("burned" in note for note in read(made, tmp_path).notes) == warned


def test_an_element_of_an_unknown_kind_is_a_damaged_file(tmp_path: Path) -> None:
    path = write(dicom(RAMP), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes().replace(b"\x28\0\x04\0CS", b"\x28\0\x04\0C\xff"))
    with pytest.raises(InvalidInput, match="damaged or truncated"):
        read_dicom(path, SALT)
