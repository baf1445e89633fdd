"""Other tools' detections with the flaws of public reports: read right, or refused with the cause.

The layouts and situations are those of `README.md`; a detector that knows the pictures takes the place of the network.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from other_files import (
    BODY25_PLACES,
    FRAMES,
    LAYOUTS,
    SIZE,
    Eye,
    alphapose_file,
    deeplabcut_text,
    film,
    flat,
    halpe,
    inferencer_entries,
    openpose_folder,
    trc_text,
    triples,
)

from twoview.config import DetectConfig
from twoview.detection.other_tools import Layout, import_athlete
from twoview.detection.readers import read_detections, recognize
from twoview.errors import DetectorError, FormatError, MissingBackend
from twoview.skeleton import COCO17

XY = halpe()
BODY25 = triples(XY)[:, BODY25_PLACES]
DATA = Path(__file__).parents[1] / "data"
TABLE = deeplabcut_text(triples(XY[:, :17]))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return film(tmp_path_factory.mktemp("foreign") / "clip.mp4")


@pytest.fixture
def imported(video):
    def run(path, **options):
        return import_athlete(path, video, detector=options.pop("eye", Eye()), **options)

    return run


def is_right(found, *, first: int = 0, last: int = FRAMES) -> bool:
    """Every frame from first to before last holds the body, and no other does."""
    seen = (found.poses.score > 0).any(axis=1)
    off = np.linalg.norm(found.poses.xy[:, :17] - XY[:, :17], axis=-1)[first:last]
    return bool(seen[first:last].all() and not seen[:first].any() and not seen[last:].any() and np.nanmax(off) < 0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_tools_write_today_is_read(layout, imported, tmp_path):
    found = imported(LAYOUTS[layout](tmp_path, XY))
    assert is_right(found)
    assert f"of {FRAMES}" in found.remarks[0]
    assert "compared with movenet in 6 frames" in " ".join(found.remarks)


TURNED = np.stack([SIZE[0] - 1 - XY[..., 1], XY[..., 0]], axis=-1)
PLACES = {  # what was done to the positions -> what the refusal says
    "0..1": (XY / np.array(SIZE), r"shares of the picture from 0 to 1.*--from-size 1x1"),
    "-1..1": (XY / np.array(SIZE) * 2 - 1, r"from -1 to 1 \(OpenPose's keypoint_scale 4\).*--keypoint_scale 0"),
    "half": (XY / 2, r"pictures of about 240 x 180, and this video has 480 x 360.*--from-size 240x180"),
    "double": (XY * 2, r"pictures of about 960 x 720.*--from-size 960x720"),
    "five percent": (XY * 1.05, r"pictures of about 50\d x 37\d"),
    "two percent": (XY * 1.02, r"half as far in pictures of about 4[89]\d x 36\d.*--from-size 4[89]\dx36\d"),
    "two percent less": (XY * 0.98, r"half as far in pictures of about 4[67]\d x 35\d"),
    "three quarters": (XY * 0.75, r"pictures of about 360 x 270"),
    "squashed": (XY * [640 / 480, 640 / 360], r"pictures of about 6[34]\d x 6[34]\d"),
    "letterboxed": (XY * 1.333 + [0, 80], r"scaled by 0.7\d x 0.7\d and moved by .* cropped or padded copy"),
    "cropped": (XY - [100, 40], r"scaled by (0.9\d|1.0\d) x (0.9\d|1.0\d) and moved by"),
    "upside down": (np.array(SIZE) - 1 - XY, "turned by 180 degrees"),
    "turned": (np.stack([XY[..., 1], SIZE[0] - 1 - XY[..., 0]], axis=-1), "turned by 90 degrees"),
    "turned back": (np.stack([SIZE[1] - 1 - XY[..., 1], XY[..., 0]], axis=-1), "turned by 270 degrees"),
    "mirrored": (np.stack([SIZE[0] - 1 - XY[..., 0], XY[..., 1]], axis=-1), "mirrored picture"),
    "y up": (np.stack([XY[..., 0], SIZE[1] - 1 - XY[..., 1]], axis=-1), "y points up"),
    "y, x": (XY[..., ::-1], "x and y are swapped"),
    "elsewhere": (XY * 0.4 + [300, 10], "body sizes from where movenet sees people"),
}


@pytest.mark.parametrize("flaw", PLACES)
def test_positions_are_checked_against_the_picture(flaw, imported, tmp_path):
    wrong, cause = PLACES[flaw]
    path = openpose_folder(tmp_path / "json", triples(wrong))
    with pytest.raises(FormatError) as error:
        imported(path)
    assert re.search(cause, " ".join(str(error.value).split())), error.value


def test_another_moment_or_video_is_refused(imported, tmp_path):
    other = halpe(angle=200, seed=5) + np.array([90, -30])
    with pytest.raises(FormatError, match="body sizes from where movenet sees people"):
        imported(openpose_folder(tmp_path / "json", triples(other)))
    assert imported(tmp_path / "json", config=DetectConfig(check=False)).poses.xy.shape[0] == FRAMES


def test_the_size_of_the_pictures_puts_positions_right(imported, tmp_path):
    half = openpose_folder(tmp_path / "half", triples((XY + 0.5) / 2 - 0.5))
    shares = openpose_folder(tmp_path / "shares", np.round(triples(XY / np.array(SIZE)), 6))
    assert is_right(imported(half, layout=Layout(size=(240, 180))))
    found = imported(shares, layout=Layout(size=(1, 1)))
    assert np.nanmax(np.linalg.norm(found.poses.xy[:, :17] - XY[:, :17], axis=-1)) < 0.1
    assert "scaled from shares of the picture" in " ".join(found.remarks)


def test_without_a_look_what_cannot_be_is_still_refused(imported, tmp_path):
    unchecked = DetectConfig(check=False)
    for name, xy, cause in (("a", XY * 2.5, "lie outside the picture"), ("b", XY / 200 + 50, "px large")):
        with pytest.raises(FormatError, match=cause):
            imported(openpose_folder(tmp_path / name, triples(xy)), config=unchecked)


def test_bodies_outside_the_picture_are_not_found(imported, tmp_path):
    xy = XY.copy()
    xy[30:] += np.array([2000, 0])
    found = imported(openpose_folder(tmp_path / "json", triples(xy)))
    assert is_right(found, last=30)
    assert "10 bodies outside the picture were left out" in found.remarks


@pytest.mark.parametrize("tool", ["openpose", "alphapose", "alphapose of ffmpeg's pictures"])
@pytest.mark.parametrize("first", [0, 1])
def test_frames_from_0_or_1_are_found_out(tool, first, imported, tmp_path):
    inner = np.full_like(BODY25 if tool == "openpose" else triples(XY), np.nan)
    inner[2:-2] = (BODY25 if tool == "openpose" else triples(XY))[2:-2]
    if tool == "openpose":
        path = openpose_folder(tmp_path / "json", inner, first=first, frames=range(2, FRAMES - 2))
    else:
        name = "{}.jpg" if tool == "alphapose" else "{:04d}.png"
        path = alphapose_file(tmp_path / "a.json", inner[2:-2], name=name, first=first + 2)
    found = imported(path)
    assert is_right(found, first=2, last=FRAMES - 2)
    assert f"frames are counted from {first}, by where movenet sees people" in " ".join(found.remarks)


def test_numbers_that_fit_one_way_need_no_comparison(imported, tmp_path):
    eye = Eye()
    unchecked = DetectConfig(check=False)
    from1 = openpose_folder(tmp_path / "one", BODY25, first=1)
    found = imported(from1, eye=eye, config=unchecked)
    assert is_right(found)
    assert found.remarks[0] == f"openpose, frames 1 to {FRAMES}, counted from 1, of {FRAMES}"
    nobody = BODY25.copy()
    nobody[-1] = np.nan  # the last file is there, with nobody in it
    assert is_right(imported(openpose_folder(tmp_path / "two", nobody, first=1), eye=eye, config=unchecked), last=39)
    assert eye.looked == 0


def test_frames_that_nothing_settles_are_asked_for(imported, tmp_path, video):
    still = np.repeat(XY[:1], FRAMES, axis=0)
    path = alphapose_file(tmp_path / "a.json", triples(still)[1:-1], first=1)
    with pytest.raises(FormatError, match="--first-frame 0 or --first-frame 1"):
        imported(path, eye=Eye(still))
    for first in (0, 1):
        found = imported(path, eye=Eye(still), layout=Layout(first_frame=first))
        assert (found.poses.score[1 - first] > 0).all()


def test_frames_that_the_video_does_not_have(imported, tmp_path):
    more = np.concatenate([BODY25, BODY25[-1:]])
    with pytest.raises(FormatError, match=rf"frames 0 to {FRAMES} and .* has {FRAMES} frames .*: 1 more than there"):
        imported(openpose_folder(tmp_path / "json", more))


@pytest.mark.parametrize("apart", [150, -120])
def test_repeated_ids_are_no_ids(apart, imported, tmp_path):
    other = XY * [1, 1] + np.array([apart, 0])
    rows = []
    for frame in range(FRAMES):
        both = [triples(XY)[frame], triples(other, 0.5)[frame]]
        rows += [(frame, body) for body in both[:: -1 if frame % 3 else 1]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"image_id": f"{f}.jpg", "keypoints": flat(b), "idx": 0} for f, b in rows]))
    people = [imported(path, config=DetectConfig(person=number)) for number in (0, 1)]
    assert sorted(is_right(one) for one in people) == [False, True]
    assert all("have one id" in " ".join(one.remarks) for one in people)


def test_a_body_that_nobody_sees_is_not_taken_for_the_athlete(imported, tmp_path):
    made_up = XY + 20 * np.sin(np.arange(FRAMES))[:, None, None] * np.linspace(-1, 1, XY.shape[1])[:, None]
    made_up = 1.2 * (made_up - XY.mean((0, 1))) + XY.mean((0, 1)) + [100, 0]  # larger, and it moves more
    path = tmp_path / "a.json"
    bodies = [(f, one[f], idx) for f in range(FRAMES) for idx, one in enumerate((triples(XY), triples(made_up)))]
    path.write_text(json.dumps([{"image_id": f"{f}.jpg", "keypoints": flat(b), "idx": i} for f, b, i in bodies]))
    for sureness in (0.0, 0.7):
        with pytest.raises(DetectorError, match=r"person 1 of 2 .* sees nobody there; person 0 lies where"):
            imported(path, config=DetectConfig(sureness=sureness))
    assert is_right(imported(path, config=DetectConfig(person=0)))
    assert imported(path, config=DetectConfig(sureness=0.0, check=False)).choice.track == 1


def test_the_order_of_joints_is_checked_on_the_body(imported, tmp_path):
    h36m = XY[:, [19, 12, 14, 16, 11, 13, 15, 19, 18, 0, 17, 5, 7, 9, 6, 8, 10]].copy()
    h36m[:, 7] = (XY[:, 19] + XY[:, 18]) / 2
    path = alphapose_file(tmp_path / "a.json", triples(h36m))
    with pytest.raises(FormatError, match=r"not in the order coco17.*the order h36m17 fits\nhint: --skeleton h36m17"):
        imported(path)
    found = imported(path, layout=Layout(joints="h36m17"))
    assert found.poses.skeleton.name == "h36m17"
    np.testing.assert_allclose(found.poses.xy[:, 1], XY[:, 12], atol=0.01)
    shuffled = alphapose_file(tmp_path / "b.json", triples(XY[:, np.random.default_rng(1).permutation(17)]))
    with pytest.raises(FormatError, match="its bones would cross the whole body"):
        imported(shuffled)


@pytest.mark.parametrize("pairs", [[(i, i + 1) for i in range(1, 17, 2)], [(7, 13), (8, 14)], [(9, 15), (10, 16)]])
def test_joints_that_lie_on_others_are_named(pairs, imported, tmp_path):
    order = np.arange(17)
    for a, b in pairs:
        order[[a, b]] = order[[b, a]]
    with pytest.raises(FormatError, match=r"lies where the .* is seen|order coco17"):
        imported(alphapose_file(tmp_path / "a.json", triples(XY[:, order])))


def test_the_files_of_two_videos_in_one_folder(imported, tmp_path):
    both = tmp_path / "json"
    openpose_folder(both, BODY25)
    openpose_folder(both, BODY25 + np.array([50, 0, 0]), name="other_{:012d}_keypoints.json")
    assert is_right(imported(both))
    for file in both.glob("clip*"):
        file.rename(file.with_name(file.name.replace("clip", "third")))
    with pytest.raises(FormatError, match=r"frames of 2 videos: other \(40 frames\), third \(40 frames\); none .*clip"):
        imported(both)


REFUSED = {  # what the file is -> its name, content, and what the refusal says
    "nobody": ("a.json", json.dumps({"instance_info": []}), "holds no person"),
    "scores of 0": ("a.json", json.dumps({"annotations": [{"frame_id": f, "keypoints": flat(triples(
        XY[f, :17], 0.0))} for f in range(FRAMES)]}), "score 0 in every joint"),
    "cut off": ("a.json", json.dumps(inferencer_entries(triples(XY)))[:5000], "damaged or not JSON"),
    "UTF-16": ("a.csv", TABLE.encode("utf-16"), "it is in UTF-16"),
    "Latin-1": ("a.csv", "scorer,é".encode("latin-1"), "may be in Windows-1252 or Latin-1"),
    "no heading": ("a.csv", "\n".join(TABLE.splitlines()[3:]), "no table of DeepLabCut"),
    "no coords": ("a.csv", "scorer,a\nbodyparts,nose\n0,1\n", "no row coords at its top"),
    "a word": ("a.csv", TABLE.replace("0.900", "high", 1), "row 1 under .*'high' is no num"),
    "a short row": ("a.csv", TABLE[:-400], r"row 39 under its heading: it has \d+ cells"),
    "meters": ("a.trc", trc_text(triples(XY[:, :17] / 200), unit="m"), "is in m, and 2D detections are in pixels"),
    "no keypoints": ("a.json", json.dumps([{"image_id": 3, "bbox": [1, 2, 3, 4]}]), "entry 0: 'keypoints' is missing"),
    "a box": ("a.json", json.dumps([{"image_id": 3, "keypoints": [1, 2, 3, 4]}]), "not triples of x, y, score"),
    "one joint": ("a.json", json.dumps([{"image_id": 3, "keypoints": [1, 2, 0.4]}]), "people have 1 joints"),
    "21 joints": ("a.json", json.dumps([{"image_id": 3, "keypoints": [1, 2, 0.4] * 21}]), "have 21 joints"),
    "percent": ("a.json", json.dumps([{"image_id": 0, "keypoints": flat(triples(XY[0], 87))}]), "scores are around 87"),
    "settings": ("a.json", json.dumps({"format": "twoview"}), "in none of the formats openpose"),
    "a pickle": ("a.pickle", b"\x80\x04.", "a pickle, which could run code"),
    "SLEAP's project": ("a.slp", b"\x89HDF", "sleap-convert"),
    "numbers alone": ("a.npy", b"\x93NUMPY", "an array without names"),
    "an angle file": ("a.mot", "name\n", "joint angles"),
    "a broken npz": ("a.npz", b"PK\x03\x04", "cannot be read as"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_named(what, imported, tmp_path):
    name, content, cause = REFUSED[what]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FormatError, match=cause) as error:
        imported(tmp_path / name)
    assert name in error.value.message
    for foreign in ("Error(", "invalid literal", "could not convert", "NoneType", "delete", "Traceback"):
        assert foreign not in str(error.value)


def test_hdf5_is_read_with_its_package_and_named_without(imported, tmp_path):
    (tmp_path / "clip.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises((MissingBackend, FormatError), match=r"csv|HDF5"):
        imported(tmp_path / "clip.h5")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "clip.analysis.h5", "w") as file:
        file["tracks"] = XY[None, :, :17].transpose(0, 3, 2, 1)
        file["node_names"] = [name.encode() for name in COCO17.joints]
    assert is_right(imported(tmp_path / "clip.analysis.h5"))


@pytest.mark.parametrize("stored", ["analysis", "labels"])
def test_deeplabcuts_hdf5_holds_what_its_table_does(stored, imported, tmp_path):
    h5py = pytest.importorskip("h5py")
    rows = [row.split(",") for row in TABLE.splitlines()]
    heads, values = [row[1:] for row in rows[:3]], np.array([list(map(float, row[1:])) for row in rows[3:]])
    columns = list(zip(*heads, strict=True))
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = b"frame_table" if stored == "analysis" else b"frame"
        if stored == "analysis":
            group.attrs["non_index_axes"] = np.bytes_(pickle.dumps([(1, columns)], 0))
            table = np.zeros(len(values), [("index", "<i8"), ("values_block_0", "<f8", values.shape[1:])])
            table["index"], table["values_block_0"] = np.arange(len(values)), values
            group["table"] = table
        else:
            group.attrs["axis0_nlevels"] = 3
            for level, names in enumerate(heads):
                known = sorted(set(names))
                group[f"axis0_level{level}"] = np.array(known, "S")
                group[f"axis0_label{level}"] = np.array([known.index(name) for name in names], np.int8)
            group["axis1"], group["block0_values"] = np.arange(len(values)), values
    assert recognize(tmp_path / "clip.h5") == "deeplabcut"
    assert is_right(imported(tmp_path / "clip.h5"))


def test_hdf5_that_pandas_wrote_for_deeplabcut_is_read():
    pytest.importorskip("h5py")
    found = read_detections(DATA / "deeplabcut_two_animals.h5")
    assert found.skeleton.name == "coco17"
    assert found.frame.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.person.tolist() == [0, 1] * 4
    np.testing.assert_array_equal(found.xy[0, 1], [3, 4])
    np.testing.assert_array_equal(found.xy[3, 2], [1057, 1058])
    assert found.score[2, 1] == 0
    labels = read_detections(DATA / "deeplabcut_labels.h5")
    assert labels.frame.tolist() == [0, 1, 2, 3]
    assert "the table has no likelihood" in labels.remarks[0]


def test_names_in_hdf5_that_could_run_code_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    shutil.copyfile(DATA / "deeplabcut_two_animals.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["df_with_missing"].attrs["non_index_axes"] = np.bytes_(b"cos\nsystem\n(S'echo no'\ntR.")
    with pytest.raises(FormatError, match="could run code"):
        read_detections(tmp_path / "a.h5")


def test_the_network_that_ships_looks_and_sees_nobody(video, tmp_path):
    found = import_athlete(openpose_folder(tmp_path / "json", BODY25), video)
    assert "not compared with the picture: movenet sees nobody in 6 frames" in found.remarks
