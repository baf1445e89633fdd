from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from pages import Page

from twoview.errors import StorageError
from twoview.visualization.report import loss_shares, write_report

ROWS = [
    {"epoch": n, "loss_position": 0.5 / n, "loss_new": 0.1, "criterion": 1 - 0.1 * n, "angle_deg": 80.0, "seconds": 60}
    for n in range(1, 5)
]
BEFORE, AFTER = {"criterion": 1.0, "angle_deg": 79.0}, {"criterion": 0.6, "angle_deg": 80.0}


def page(path, *arguments, **options) -> str:
    return write_report(path / "report.html", *arguments, title="run1", **options).read_text()


def test_one_sentence_sums_the_run_up_with_its_numbers(tmp_path):
    text = page(tmp_path, ROWS, before=BEFORE, after=AFTER, best_epoch=4)
    assert "4 epochs in 4.0 min. Epoch 4 was kept: criterion 1 before, 0.6 after (-40%)." in text
    assert "<th>criterion</th><td>1</td><td>0.6</td><td class='good'>-40%</td>" in text
    assert "<th>angle</th><td>79.0 degrees</td><td>80.0 degrees</td><td class=''>+1%</td>" in text


@pytest.mark.parametrize(
    ("method", "sentence", "title"),
    [
        ("phones", "error on held-out takes 89.0 mm before, 68.0 mm after", "error on held-out takes, mm"),
        (
            "paper",
            "disagreement on held-out takes 8900.0 % before, 6800.0 % after",
            "disagreement on held-out takes, %",
        ),
    ],
)
def test_what_chose_the_epoch_has_a_name_and_a_unit_and_comes_first(tmp_path, method, sentence, title):
    options = {"before": {"angle_deg": 79.0, "criterion": 89.0}, "after": {"angle_deg": 80.0, "criterion": 68.0}}
    text = page(tmp_path, ROWS, best_epoch=4, about={"method": method}, **options)
    assert sentence in text
    assert text.index(f"<th>{title.split(',')[0]}") < text.index("<th>angle<")
    assert f">{title}</text>" in text


def test_pictures_of_held_out_takes_come_before_all_numbers(tmp_path):
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    text = page(tmp_path, ROWS, before=BEFORE, after=AFTER, pictures=[("t<1>, view a", jpeg)])
    assert text.index("t&lt;1&gt;, view a") < text.index("<table")
    made = Page(tmp_path / "report.html")
    (source,) = (attributes["src"] for tag, attributes in made.tags if tag == "img")
    assert base64.b64decode(source.removeprefix("data:image/jpeg;base64,")) == jpeg
    assert made.loaded() == made.handlers() == made.scripts == []
    assert made.policy["script-src"] == made.policy["default-src"] == ["'none'"]


def test_every_number_of_the_log_gets_a_curve_whatever_its_name(tmp_path):
    text = page(tmp_path, [{**row, "brand_new": 3.0, "a_list": [1, 2], "a_text": "x"} for row in ROWS])
    for name in ("position", "new", "criterion", "angle, degrees", "brand new"):
        assert f">{name}</text>" in text
    assert "a list" not in text
    assert text.count("<svg") == 2


def test_the_share_of_every_source_in_the_loss_is_told(tmp_path):
    rows = [
        {"epoch": 1, "loss_pseudo_position": 4.0, "loss_pseudo_root": 2.0, "loss_consistency": 1.0, "criterion": 9.0},
        {"epoch": 2, "loss_pseudo_position": 2.0, "loss_pseudo_root": 0.4, "loss_consistency": 0.2, "loss_own": 0.4},
    ]
    assert loss_shares(rows) == pytest.approx({"pseudo-labels": 0.84, "the paper's consistency": 0.12, "own": 0.04})
    told = "hare of the loss: pseudo-labels 84%, the paper&#x27;s consistency 12%, own 4.0%."
    assert told in page(tmp_path, rows)
    assert loss_shares([]) == {}
    assert "hare of the loss" not in page(tmp_path, [])


def test_the_report_states_that_a_run_did_not_help(tmp_path):
    assert "No epoch was better on the held-out clips" in page(tmp_path, ROWS, best_epoch=0)
    assert "No epoch was finished" in page(tmp_path, [])


def test_warnings_are_sentences_and_text_is_escaped(tmp_path):
    text = page(tmp_path, ROWS, warnings=["the body <shrank> & fell"], about={"views": "a,<b>", "nested": {"x": 1}})
    assert "<li>The body &lt;shrank&gt; &amp; fell.</li>" in text
    assert "a,&lt;b&gt;" in text
    assert "nested" not in text


def test_numbers_that_are_missing_leave_a_gap_and_not_an_error(tmp_path):
    rows = [{"epoch": 1, "loss_a": 0.0, "m": float("nan")}, {"epoch": 2, "loss_a": -1.0}, {"epoch": 3, "m": 1.0}]
    text = page(tmp_path, rows, before={"m": float("nan")}, after={"m": 1.0})
    assert "nan" not in text[text.index("<h1>") : text.index("<svg")]


def test_the_page_needs_no_network_and_its_drawings_are_well_formed(tmp_path):
    text = page(tmp_path, ROWS, before=BEFORE, after=AFTER, best_epoch=2)
    assert Page(tmp_path / "report.html").loaded() == []
    for piece in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + piece[: piece.index("</svg>")] + "</svg>")


def test_the_same_run_gives_the_same_page(tmp_path):
    assert page(tmp_path, ROWS, before=BEFORE) == page(tmp_path, ROWS, before=BEFORE)


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        page(tmp_path / "file", ROWS)
