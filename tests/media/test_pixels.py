from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hdr_files import HLG, PQ, write_hdr
from hdr_files import frame as hdr_frame
from videos import write

from twoview.media.pixels import DecodedFrame, Pixels
from twoview.media.video import decoded, probe

TURNS = [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]
BOXES = [(3.2, 5.7, 40.1, 30.0), (-20.0, -9.0, 11.0, 13.0), (30.0, 31.0, 500.0, 500.0), (-5, -5, 900, 900)]


def noise(size: tuple[int, int], format: str = "yuv420p", *, wide: bool = False) -> av.VideoFrame:
    """A decoded frame of coarse noise; `wide` uses all values from 0 to 255."""
    random = np.random.default_rng(3).integers(0, 255, (size[1] // 4 + 1, size[0] // 4 + 1, 3), np.uint8)
    rgb = np.ascontiguousarray(random.repeat(4, 0).repeat(4, 1)[: size[1], : size[0]])
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format, dst_colorspace="ITU709")
    frame.color_range = 2 if wide else 1
    return frame


def smooth(size: tuple[int, int], *, wide: bool = False) -> av.VideoFrame:
    """A decoded frame whose colors change slowly."""
    rgb = np.random.default_rng(3).integers(0, 255, (size[1], size[0], 3), np.uint8)
    rgb = cv2.normalize(cv2.GaussianBlur(rgb, (0, 0), 16), None, 20, 235, cv2.NORM_MINMAX)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    frame.color_range = 2 if wide else 1
    return frame


@pytest.mark.parametrize("matrix", TURNS)
@pytest.mark.parametrize("wide", [False, True])
def test_a_part_is_what_the_whole_picture_shows_there(matrix, wide):
    picture = DecodedFrame(0.0, noise((96, 64), wide=wide), matrix)
    assert picture.kept(picture.size) is picture
    whole = picture.rgb()
    assert whole.shape[1::-1] == picture.size
    for box in np.array(BOXES):
        rgb, (left, top) = picture.part(box)
        right, bottom = left + rgb.shape[1], top + rgb.shape[0]
        np.testing.assert_array_equal(rgb, whole[top:bottom, left:right])
        width, height = picture.size
        assert left <= max(box[0], 0)
        assert top <= max(box[1], 0)
        assert right >= min(box[2], width)
        assert bottom >= min(box[3], height)


def test_colors_do_not_change_with_the_part():
    frame = noise((64, 48))
    for space in (1, 5):  # BT.709 and BT.601
        frame.colorspace = space
        picture = DecodedFrame(0.0, frame, (1, 0, 0, 1))
        rgb, (left, top) = picture.part(np.array([10.0, 10, 30, 30]))
        np.testing.assert_array_equal(rgb, picture.rgb()[top : top + rgb.shape[0], left : left + rgb.shape[1]])


@pytest.mark.parametrize("matrix", TURNS)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("space", [1, 2, 5, 7, 9])
def test_a_crop_is_what_the_whole_picture_gives(matrix, wide, space):
    frame = smooth((192, 128), wide=wide)
    frame.colorspace = space
    picture = DecodedFrame(0.0, frame, matrix)
    for affine in ([[2.1, 0, 3.6], [0, 2.1, -30.8]], [[0.5, 0, -7.3], [0, 0.5, 4.2]]):
        whole = Pixels(0.0, picture.rgb()).crop(np.array(affine), (48, 64)).astype(int)
        away = picture.crop(np.array(affine), (48, 64)) - whole
        assert (np.abs(away.mean(axis=(0, 1))) < 1.5).all()  # those of the whole picture are rounded down
        assert np.quantile(np.abs(away), 0.9) <= 3
    assert (np.abs(away[:3]) <= 1).all()  # black above the picture


@pytest.mark.parametrize(("size", "format"), [((64, 48), "yuv420p10le"), ((64, 48), "yuv444p"), ((63, 47), "yuv420p")])
def test_pictures_stored_otherwise_are_made_at_once(size, format):
    picture = DecodedFrame(0.0, noise(size, format), (1, 0, 0, 1))
    kept = picture.kept(size)
    assert isinstance(kept, Pixels)
    rgb, (left, top) = kept.part(np.array([4.5, 3.5, 20.5, 18.5]))
    assert (left, top, *rgb.shape[:2]) == (4, 3, 16, 17)
    np.testing.assert_array_equal(rgb, picture.rgb()[3:19, 4:21])


def test_a_scaled_picture_is_kept_scaled(tmp_path):
    path = write(tmp_path / "a.mp4", count=2, rotation=90)
    picture = next(decoded(path))
    assert picture.size == (48, 64)
    assert picture.kept((24, 32)).rgb().shape == (32, 24, 3)


def test_somebody_beside_the_picture_still_gives_a_part():
    picture = DecodedFrame(0.0, noise((64, 48)), (1, 0, 0, 1))
    for box in ([200.0, 10, 240, 40], [-90.0, -90, -50, -50]):
        for kept in (picture, Pixels(0.0, picture.rgb())):
            assert kept.part(np.array(box))[0].size > 0


def colors(size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A smooth picture of all brightnesses, weakly colored as people and fields are."""
    rgb = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    weak = 0.3 * cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 8)
    return np.clip(cv2.normalize(weak, None, -30, 30, cv2.NORM_MINMAX) + np.linspace(30, 225, size[0])[:, None], 0, 255)


@pytest.mark.parametrize("transfer", [HLG, PQ])
@pytest.mark.parametrize("matrix", TURNS)
def test_high_dynamic_range_shows_the_colors_of_its_standard_copy(transfer, matrix):
    rgb = colors().astype(np.uint8)
    shown = DecodedFrame(0.0, hdr_frame(rgb, transfer), matrix).rgb()
    turned = DecodedFrame(0.0, av.VideoFrame.from_ndarray(rgb, format="rgb24"), matrix).rgb()
    away = np.abs(shown.astype(int) - turned)
    assert away.mean() < 2
    assert np.quantile(away, 0.99) <= 8


def test_high_dynamic_range_in_8_bits_and_without_named_primaries_is_mapped_too():
    rgb = colors().astype(np.uint8)
    for format, primaries, most in (("yuv420p", 9, 4), ("yuv420p10le", 2, 2), ("yuv420p10le", 22, 12)):
        made = hdr_frame(rgb, HLG).reformat(format=format)
        made.color_trc, made.color_primaries = HLG, primaries
        picture = DecodedFrame(0.0, made, (1, 0, 0, 1))
        kept = picture.kept(picture.size)
        assert isinstance(kept, Pixels)
        assert np.abs(kept.values.astype(int) - rgb).mean() < most


def test_light_above_the_white_of_paper_is_clipped_and_black_stays_black():
    made = hdr_frame(np.zeros((48, 64, 3), np.uint8), PQ)
    assert DecodedFrame(0.0, made, (1, 0, 0, 1)).rgb().max() == 0
    bright = np.full((48, 64), 940, "<u2")  # the brightest there is
    made.planes[0].update(np.pad(bright, ((0, 0), (0, made.planes[0].line_size // 2 - 64))).tobytes())
    assert DecodedFrame(0.0, made, (1, 0, 0, 1)).rgb().min() == 255


@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14])
@pytest.mark.parametrize("format", ["yuv420p", "yuvj420p", "yuv420p10le", "yuv444p"])
def test_the_standard_range_is_shown_as_it_was(transfer, format):
    made = noise((64, 48), format)
    made.color_trc = transfer
    plain = made.reformat(format="rgb24", interpolation="AREA", threads=1).to_ndarray()
    np.testing.assert_array_equal(DecodedFrame(0.0, made, (1, 0, 0, 1)).rgb(), plain)


def test_a_phones_video_in_hlg_is_read_as_its_standard_copy(tmp_path):
    rgb = colors().astype(np.uint8)
    shown = list(decoded(write_hdr(tmp_path / "a.mov", [(index / 30, rgb) for index in range(3)], HLG)))
    assert [round(one.time, 3) for one in shown] == [0, 0.033, 0.067]
    for one in shown:
        assert np.abs(one.rgb().astype(int) - rgb).mean() < 3
        assert (
            np.abs(one.rgb((32, 24)).astype(int) - cv2.resize(rgb, (32, 24), interpolation=cv2.INTER_AREA)).mean() < 3
        )
    assert any("high dynamic range (HLG)" in said for said in probe(tmp_path / "a.mov").warnings)
