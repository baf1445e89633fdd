"""The session keeps the best model: a worse run replaces nothing, and what cannot be compared is named."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from session_takes import put_take
from small_takes import PAPER

from twoview.errors import SessionError
from twoview.storage import records
from twoview.storage.session import Session, open_session
from twoview.training.runs import write_result
from twoview.workflow.models import keep_better, read_result, run_in_use, use_run
from twoview.workflow.stages import finetune_session
from twoview.workflow.summary import describe_results, describe_runs


@pytest.fixture
def session(tmp_path) -> Session:
    return Session(tmp_path / "s")


def finish(session: Session, run: str, after: float, *, before: float = 40.0, **card) -> None:
    """A finished run: a file for its model, and what its card says."""
    folder = session.folder / "runs" / run
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(run.encode())
    whole = {"adapted": True, "method": "phones", "weights": "twoview-small", "judged_on": "clips", **card}
    write_result(folder, {**whole, "before": {"criterion": before}, "after": {"criterion": after}})


def test_a_worse_run_does_not_replace_the_model_and_a_better_one_does(session, caplog):
    finish(session, "run1", 30.0)
    assert keep_better(session, "run1")
    finish(session, "run2", 31.0)
    assert not keep_better(session, "run2")
    assert run_in_use(session) == "run1"
    assert "stays that of run 'run1'" in caplog.text
    assert "this run, 31, is not better than 30" in caplog.text
    finish(session, "run3", 29.0)
    caplog.clear()
    assert keep_better(session, "run3")
    assert run_in_use(session) == "run3"
    assert not caplog.records


def test_a_run_is_used_by_hand_whatever_its_criterion(session):
    for run, after in (("run1", 30.0), ("run2", 31.0)):
        finish(session, run, after)
        keep_better(session, run)
    use_run(session, "run2")
    assert run_in_use(session) == "run2"
    with pytest.raises(SessionError, match=r"run 'run9' .* has no model; runs: run1, run2"):
        use_run(session, "run9")
    with pytest.raises(SessionError, match="run name"):
        use_run(session, "../x")


@pytest.mark.parametrize(
    "other", [{"judged_on": "other clips"}, {"method": "paper"}, {"before": 42.0}, {"after": float("nan")}]
)
def test_runs_judged_otherwise_are_not_compared_and_the_newer_one_is_used_which_is_said(session, caplog, other):
    finish(session, "run1", 30.0)
    keep_better(session, "run1")
    finish(session, "run2", **{"after": 31.0, **other})
    assert keep_better(session, "run2")
    assert run_in_use(session) == "run2"
    assert "cannot be compared" in caplog.text
    assert f"twoview finetune --run run1 --use --session {session.folder}" in caplog.text


def test_another_lifter_judged_on_the_same_clips_is_compared(session):
    finish(session, "run1", 30.0)
    keep_better(session, "run1")
    finish(session, "run2", 31.0, before=80.0, weights="motionbert")
    assert not keep_better(session, "run2")


def test_a_run_that_could_not_adapt_never_replaces_an_adapted_model(session, caplog):
    finish(session, "run1", 30.0)
    keep_better(session, "run1")
    finish(session, "run2", 25.0, before=25.0, adapted=False, judged_on="other clips")
    assert not keep_better(session, "run2")
    assert "could not adapt" in caplog.text


def test_a_damaged_model_is_replaced(session):
    session.folder.mkdir()
    session.model_path.write_bytes(b"half a model")
    finish(session, "run1", 30.0)
    assert keep_better(session, "run1")
    assert run_in_use(session) == "run1"


def test_training_keeps_the_better_model_and_show_says_which(tmp_path, start, caplog):
    folder = tmp_path / "s"
    for number in range(2):
        put_take(folder, f"take{number}", seconds=6.0 + number)
    session, config = open_session(folder), replace(PAPER, weights=str(start), held_out=0.5, gate=False, epochs=12)
    first = finetune_session(session, config=config, run="good")
    assert first.adapted
    kept = session.model_path.read_bytes()
    with caplog.at_level(logging.WARNING):
        finetune_session(session, config=replace(config, epochs=1, lr=1e-9), run="idle")
    assert session.model_path.read_bytes() == kept
    assert "stays that of run 'good'" in caplog.text
    (session.run_folder("idle") / "result.json").unlink()  # as older versions left a run
    assert read_result(session.run_folder("idle")).judged_on == read_result(session.run_folder("good")).judged_on
    rows = {row["run"]: row for row in describe_runs(session)}
    assert rows["good"]["model"] == "in use"
    assert rows["good"]["after"] == pytest.approx(first.after["criterion"])
    assert rows["idle"]["model"] in ("", "kept unadapted")
    finetune_session(session, config=replace(config, epochs=1, lr=1e-9), run="idle", use=True)
    assert run_in_use(session) == "idle"


def test_results_are_listed_with_their_model(session):
    from scenes import swinging_person

    for run, after in (("run1", 30.0), ("run2", 31.0)):
        finish(session, run, after)
        keep_better(session, run)
    models = {run: records.fingerprint(session.run_folder(run) / "model.pt") for run in ("run1", "run2")}
    for name, model in {**models, "other": "3-" + "0" * 24, "named": "twoview-small"}.items():
        records.save(session.results / f"{name}.npz", swinging_person(), inputs={"clip": "c", "model": model})
    (session.results / "half.npz").write_bytes(b"PK")
    (session.results / "run1.2d.npz").write_bytes(b"")
    assert {row["result"]: row["model"] for row in describe_results(session) if row["result"] != "half"} == {
        "run1": "run run1, in use", "run2": "run run2", "other": "a model that is gone", "named": "twoview-small",
    }  # fmt: skip
