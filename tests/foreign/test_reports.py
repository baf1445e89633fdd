"""Reports of `README.md` that no other test holds, one test each; and every test that the page names exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from other_files import FRAMES, Eye, deeplabcut_text, film, flat, halpe, inferencer_entries, openpose_folder, triples
from places import TESTS

from twoview.config import DetectConfig
from twoview.detection.other_tools import import_athlete
from twoview.detection.readers import read_detections
from twoview.errors import FormatError

XY = halpe()[:, :17]
BODIES = triples(XY)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return film(tmp_path_factory.mktemp("reports") / "clip.mp4")


def is_read(path: Path, video: Path, **config) -> bool:
    found = import_athlete(path, video, detector=Eye(), config=DetectConfig(**config)).poses
    return bool(np.abs(found.xy[:, :17] - XY).max() < 0.02)


def alphapose(path: Path, **more) -> Path:
    """A row per frame, with more entries, or other ones, in each."""
    rows = [{"image_id": f"{f}.jpg", "keypoints": flat(body), "score": 2.9} for f, body in enumerate(BODIES)]
    path.write_text(json.dumps([{**row, **more} for row in rows]))
    return path


@pytest.mark.parametrize("idx", [[[0.0], [0.0]], [0.0], 1.0, None])
def test_ids_in_lists(idx, tmp_path, video):
    assert is_read(alphapose(tmp_path / "a.json", idx=idx), video)


def test_people_in_another_order_in_each_frame_without_ids(tmp_path, video):
    rows = []
    for f, body in enumerate(BODIES):
        both = [body, body * [1, 1, 0.5] + [150, 0, 0]]
        rows += [{"image_id": f"{f}.jpg", "keypoints": flat(one)} for one in both[:: -1 if f % 3 else 1]]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert is_read(tmp_path / "a.json", video)


@pytest.mark.parametrize("score", [1.0, 1.7])
def test_scores_of_1_and_above(score, tmp_path, video):
    (tmp_path / "a.json").write_text(json.dumps(inferencer_entries(BODIES, score=score)))
    assert is_read(tmp_path / "a.json", video)


def test_one_file_per_picture(tmp_path, video):
    (tmp_path / "json").mkdir()
    for entry in inferencer_entries(BODIES):
        name = f"{entry['frame_id']:06d}.json"
        (tmp_path / "json" / name).write_text(json.dumps(entry["instances"]))
    try:
        assert is_read(tmp_path / "json", video)
    except FormatError as error:
        pytest.fail(str(error))


def test_a_layout_that_no_reader_knows_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"person_1": {"frame_0": {"keypoints": flat(BODIES[0])}}}))
    with pytest.raises(FormatError, match=r"in none of the formats openpose, alphapose"):
        read_detections(path)


def test_a_folder_without_json_or_without_people(tmp_path):
    (tmp_path / "json").mkdir()
    with pytest.raises(FormatError, match=r"holds no files, and no \.json"):
        read_detections(tmp_path / "json")
    (tmp_path / "json" / "a_000.json").write_text('{"people": []}')
    with pytest.raises(FormatError, match="holds no person"):
        read_detections(tmp_path / "json")


def test_other_json_in_the_folder_of_openpose_is_refused_with_what_is_missing(tmp_path):
    folder = openpose_folder(tmp_path / "json", BODIES)
    sorted(folder.glob("*.json"))[0].write_text('{"version": 1.3, "persons": []}')
    with pytest.raises(FormatError, match="people"):
        read_detections(folder)


def table(*, animals: int = 1, first: int = 0, blank: bool = False) -> str:
    """DeepLabCut's csv of several animals, that begins at a later frame, or whose first row is empty."""
    lines = deeplabcut_text(BODIES).splitlines()
    heads, rows = lines[:3], lines[3:]
    if animals > 1:
        cells = [row.split(",") for row in (*heads, *rows)]
        wide = [row[0:1] + row[1:] + row[1:] for row in cells]
        names = ["individuals"] + ["one"] * (len(cells[0]) - 1) + ["two"] * (len(cells[0]) - 1)
        heads = [",".join(wide[0]), ",".join(names), *(",".join(row) for row in wide[1:3])]
        rows = [",".join(row) for row in wide[3:]]
    if blank:
        rows[0] = rows[0].split(",")[0] + "," * rows[0].count(",")
    return "\n".join([*heads, *rows[first:]]) + "\n"


def test_a_table_that_begins_later_and_with_an_empty_row(tmp_path):
    (tmp_path / "a.csv").write_text(table(first=10))
    found = read_detections(tmp_path / "a.csv")
    assert found.frame.tolist() == list(range(10, FRAMES))
    (tmp_path / "b.csv").write_text(table(blank=True))
    found = read_detections(tmp_path / "b.csv")
    assert found.frame.tolist() == list(range(1, FRAMES))
    assert found.frames == (0, FRAMES - 1)


def test_a_table_of_several_animals(tmp_path):
    (tmp_path / "a.csv").write_text(table(animals=2))
    found = read_detections(tmp_path / "a.csv")
    assert sorted(set(found.person.tolist())) == [0, 1]
    np.testing.assert_allclose(found.xy[0], found.xy[1])
    np.testing.assert_allclose(found.xy[0], XY[0], atol=0.01)


def test_the_page_names_tests_that_exist_for_every_report():
    page = Path(__file__).with_name("README.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(rows) >= 40
    sources = dict[str, str]()
    for path in TESTS.rglob("test_*.py"):
        sources[path.name] = sources.get(path.name, "") + path.read_text()
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)`: (\w+)", row.split("|")[-2])
        assert named, f"no test is named: {row[:60]}"
        for file, name in named:
            assert f"def test_{name}(" in sources[file], (file, name)
