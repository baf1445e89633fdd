from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.errors import FormatError, StorageError
from twoview.formats import FORMATS, METRIC, write


@pytest.fixture
def poses():
    body = swinging_person(20, rate=29.97)
    xyz = body.xyz.copy()
    xyz[5, 3] = np.nan
    return replace(body, xyz=xyz)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_poses_with_gaps(tmp_path, poses, name):
    path = write(poses, tmp_path / f"out.{name}")
    assert path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_one_frame(tmp_path, poses, name):
    assert write(poses.between(0.0, 0.0), tmp_path / f"out.{name}").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_poses_without_a_scale_are_refused_where_readers_expect_meters(tmp_path, poses, name):
    shape = replace(poses, unit="screen")
    if name not in METRIC:
        assert write(shape, tmp_path / f"out.{name}").exists()
        return
    with pytest.raises(FormatError, match="no scale") as error:
        write(shape, tmp_path / f"out.{name}")
    assert "--height" in error.value.hint
    assert list(tmp_path.iterdir()) == []
    assert write(shape, tmp_path / f"out.{name}", force=True).exists()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_refuses_no_poses_and_places_that_cannot_be_written(tmp_path, poses, name):
    with pytest.raises(FormatError, match="no pose"):
        write(poses.between(100.0, 101.0), tmp_path / f"out.{name}")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write(poses, tmp_path / "file" / f"out.{name}")


def test_an_unknown_format_lists_the_known_ones(tmp_path, poses):
    with pytest.raises(FormatError, match="'fbx'") as error:
        write(poses, tmp_path / "out.fbx")
    assert "trc" in error.value.hint
