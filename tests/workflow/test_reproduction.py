"""The paper's experiments run on files laid out as the data sets are."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from bodies import moving_body
from data_set_files import write_human36m, write_sportspose

from twoview.errors import ConfigError, FormatError
from twoview.takes import resample
from twoview.training.clips import collate, cut
from twoview.workflow import reproduction
from twoview.workflow.reproduction import EXPERIMENTS, ROWS, as_take, reproduce

QUICK = ("epochs=1", "clip_length=9", "device=cpu")


def test_every_row_has_its_preset():
    assert {row for experiment in EXPERIMENTS.values() for row in experiment.rows} <= set(ROWS)


def test_a_table_on_sportspose(tmp_path, rng, start):
    for subject in ("S06", "S08"):  # one to test on, one to train on
        write_sportspose(tmp_path / "data_set", rng, subject)
    options = {"out": tmp_path / "out", "weights": str(start), "detector": "truth", "settings": QUICK}
    found = reproduce("sportspose", tmp_path / "data_set", rows=("unadapted", "L_3D", "L_2Dcon"), **options)
    assert list(found) == ["unadapted", "L_3D", "L_2Dcon"]
    for report in found.values():
        assert {m.part for m in report.activities} == {"soccer"}
        assert report.value("MPJPE, mean of activities") == pytest.approx(report.value("MPJPE", "soccer"))
    assert found["L_3D"].value("MPJPE") != found["unadapted"].value("MPJPE")
    assert (tmp_path / "out" / "runs" / "paper_sportspose" / "report.html").exists()
    kept = json.loads((tmp_path / "out" / "sportspose.json").read_text())
    assert kept["rows"]["L_2Dcon"]["rows"][0]["name"] == "MPJPE"


@pytest.mark.parametrize(("settings", "rate"), [((), 90.0), (("rate_hz=45",), 45.0)])
def test_every_lifter_reads_sportspose_as_it_was_recorded_or_at_the_rate_asked_for(
    tmp_path, rng, start, monkeypatch, settings, rate
):
    for subject in ("S06", "S08"):
        write_sportspose(tmp_path / "data_set", rng, subject)
    rates, measure = [], reproduction.measure

    def noted(model, recordings):
        rates.append(model.rate_hz)
        return measure(model, recordings)

    monkeypatch.setattr(reproduction, "measure", noted)
    options = {"out": tmp_path / "out", "weights": str(start), "settings": (*QUICK, *settings)}
    reproduce("sportspose", tmp_path / "data_set", rows=("unadapted", "L_2D"), **options)
    assert rates == [rate, rate]


def test_human36m_labels_only_the_first_subject(tmp_path, start):
    path = tmp_path / "h36m.pkl"
    write_human36m(path, moving_body(12, np.random.default_rng(0)))
    found = reproduce(
        "human36m", path, rows=("unadapted", "L_3D of S1 + L_2Dcon"), views=("54138969", "55011271"),
        weights=str(start), settings=QUICK, out=tmp_path / "out",
    )  # fmt: skip
    assert {m.part for m in found["unadapted"].activities} == {"Direction", "Greet"}
    rows = [json.loads(line) for line in (tmp_path / "out/runs/paper_h36m/log.jsonl").read_text().splitlines()]
    assert {"loss_position", "loss_reprojection", "loss_consistency"} <= set(rows[0])
    experiment = EXPERIMENTS["human36m"]
    takes = [as_take(r, labels=experiment.labeled(r)) for r in experiment.train(path, None)]
    assert {bool(take.truth): take.name[:4] for take in takes} == {True: "s_01", False: "s_05"}


def test_labels_come_with_the_focal_lengths_of_their_cameras(tmp_path, rng):
    write_sportspose(tmp_path, rng, "S08")
    (recording,) = EXPERIMENTS["sportspose"].train(tmp_path, None)
    take = as_take(recording, labels=True)
    assert take.truth == recording.truth
    assert take.focal == {"right": pytest.approx(1110.0), "back": pytest.approx(1110.0)}  # mean of 1100 and 1120
    assert as_take(recording, labels=False).truth is None


def test_human36m_labels_are_the_official_pixel_pose(tmp_path):
    path = tmp_path / "h36m.pkl"
    write_human36m(path, moving_body(12, np.random.default_rng(0)))
    table = pickle.loads(path.read_bytes())["train"]
    for recording in EXPERIMENTS["human36m"].train(path, None):
        (clip,) = cut(resample(as_take(recording, labels=True), 50.0), length=12)
        target = collate([clip], "screen").target[0].numpy()
        for found, view in zip(target, recording.views, strict=True):
            named = np.char.startswith(table["source"], recording.name) & (table["camera_name"] == view)
            width, height = recording.poses[view].size
            wanted = table["joint3d_image"][named] / width * 2 - [1, height / width, 0]
            assert np.abs(found - wanted).max() * width / 2 < 1e-3  # px


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no data set 'sportpose'; there are sportspose"):
        reproduce("sportpose", tmp_path, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no row 'L_4D'"):
        reproduce("sportspose", tmp_path, rows=("L_4D",), out=tmp_path / "out")
    with pytest.raises(FormatError, match="no SportsPose takes"):
        reproduce("sportspose", tmp_path, detector="truth", out=tmp_path / "out")
