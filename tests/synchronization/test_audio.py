"""Clocks from sound, on files and arrays whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pytest
from places import SHARED
from sounds import sound_of

from twoview.config import SyncConfig
from twoview.datasets.rendered import read_scene
from twoview.errors import SyncError
from twoview.media.audio import read_audio
from twoview.synchronization.audio import find_claps, relate_sounds, sync
from twoview.synchronization.audio_clocks import SPEED_OF_SOUND, find_lines, judge, match_sounds
from twoview.synchronization.audio_features import Sound
from twoview.timeline import ClockQuality

RATE = 16000
RECORDINGS = SHARED / "data" / "audio"
SCENES = SHARED / "data" / "rendered"


def claps(seconds: float, *, seed: int = 0, rate: float = 0.8) -> np.ndarray:
    """Bursts of noise at random moments over a quiet background."""
    chance = np.random.default_rng(seed)
    sound = 0.002 * chance.standard_normal(round(seconds * RATE))
    for start in np.cumsum(chance.exponential(1 / rate, round(2 * seconds * rate) + 4)):
        at = round(start * RATE)
        if at + 800 < len(sound):
            sound[at : at + 800] += chance.standard_normal(800) * np.exp(-np.arange(800) / 120) * chance.uniform(0.2, 1)
    return sound.astype(np.float32)


def recorded_by_phone(world: np.ndarray, start: float, seconds: float, *, ppm: float = 0.0) -> np.ndarray:
    """What a phone records that starts at `start` and whose clock runs `ppm` fast: the world, interpolated."""
    at = (start + np.arange(round(seconds * RATE)) / RATE / (1 + ppm * 1e-6)) * RATE
    return np.interp(at, np.arange(len(world)), world).astype(np.float32)


@pytest.mark.parametrize("start", [0.0, 2.71828, 7.3])
def test_offset_and_drift_are_recovered(start):
    world = claps(40)
    a, b = recorded_by_phone(world, start, 25), recorded_by_phone(world, 4.2, 28, ppm=60)
    found = match_sounds(sound_of(a, RATE), sound_of(-0.1 * b, RATE))
    assert not found.refusal
    middle = 10.0
    truth = 4.2 - start + middle / (1 + 60e-6)
    assert float(found.clock.to_session(middle)) == pytest.approx(truth, abs=5e-5)
    assert found.clock.drift_ppm == pytest.approx(-60, abs=5)
    assert found.quality.confidence > 0.99


@pytest.mark.parametrize(("start_a", "start_b"), [(0.7, 0.0), (0.0, 0.4), (3.0, -1.5)])
def test_the_clock_is_that_of_the_frames_whenever_the_sound_of_either_file_starts(start_a, start_b):
    """Frames and sound of a file share its clock: sound that starts later by so much was recorded so much later."""
    world = claps(30)
    first, second = (sound_of(recorded_by_phone(world, at, 20), RATE) for at in (1.0, 4.2))
    sounds = {"a": replace(first, name="a", start_s=start_a), "b": replace(second, name="b", start_s=start_b)}
    clocks, _ = relate_sounds(sounds, reference="a")
    heard_at_b = start_b + 8.0  # world second 12.2, which a records 11.2 s after its sound's start
    assert float(clocks.to_session("b", heard_at_b)) == pytest.approx(start_a + 11.2, abs=1e-4)


def test_a_large_drift_over_minutes_is_followed():
    """The delay changes by 75 ms, more than is searched around one delay: that all of it is used shows the drift."""
    world = claps(275, seed=9)
    found = match_sounds(sound_of(world, RATE), sound_of(recorded_by_phone(world, 5.0, 260, ppm=290), RATE))
    assert not found.refusal
    assert found.clock.drift_ppm == pytest.approx(-290, abs=2)
    assert found.used.mean() > 0.9
    for at_b in (5.0, 255.0):
        assert float(found.clock.to_session(at_b)) == pytest.approx(5.0 + at_b / (1 + 290e-6), abs=5e-4)


@pytest.mark.parametrize(("seconds", "claps_at"), [(40, (15.0, 18.2)), (6, np.linspace(3.0, 7.0, 9))])
def test_a_drift_that_few_or_near_sounds_show_is_unknown_and_not_applied(seconds, claps_at):
    """Two claps fit some line by chance: the drift stays that of the phones, and the warning gives its bound."""
    chance = np.random.default_rng(3)
    world = 0.0005 * chance.standard_normal(round((seconds + 6) * RATE)).astype(np.float32)
    for at in claps_at:
        start = round(at * RATE)
        world[start : start + 800] += (chance.standard_normal(800) * np.exp(-np.arange(800) / 120)).astype(np.float32)
    b = recorded_by_phone(world, 2.0, seconds, ppm=90)
    a = world + 0.01 * chance.standard_normal(len(world)).astype(np.float32)
    found = match_sounds(
        sound_of(a, RATE), sound_of(b + 0.01 * chance.standard_normal(len(b)).astype(np.float32), RATE)
    )
    assert not found.refusal
    assert found.clock.rate == 1.0
    assert not found.quality.drift_known
    for at in (0.0, seconds - 1.0):
        assert abs(float(found.clock.to_session(at)) - (2.0 + at / (1 + 90e-6))) < found.quality.end_error_s


def test_a_known_drift_is_within_its_error():
    away = []
    for seed in range(4):
        world = claps(45, seed=seed)
        b = recorded_by_phone(world, 4.0, 38, ppm=30)
        found = match_sounds(sound_of(world, RATE), sound_of(b, RATE))
        assert found.quality.drift_known
        away.append(abs(found.clock.drift_ppm + 30) / found.quality.drift_se_ppm)
    assert max(away) < 2


def two_phones(distance: dict[str, float] | None = None, **settings: float) -> ClockQuality:
    """How well the clocks of two phones with sharp sounds are known."""
    world = claps(30)
    sounds = {
        name: replace(sound_of(recorded_by_phone(world, at, 20), RATE), name=name)
        for name, at in (("a", 1.0), ("b", 4.2))
    }
    sync, _ = relate_sounds(sounds, reference="a", distances=distance, config=SyncConfig(**settings))
    return sync.quality["b"]


def test_however_sharp_the_sound_the_clocks_are_known_to_the_way_of_the_sound():
    unknown, told, small = two_phones(), two_phones({"a": 3.0, "b": 8.0}), two_phones(sound_way_m=2.0)
    assert unknown.offset_se_s < 1e-4
    assert unknown.travel_s == pytest.approx(5 / SPEED_OF_SOUND)
    assert unknown.error_s >= unknown.travel_s
    assert 0.9 < unknown.confidence < 0.99  # within half a frame, 16.7 ms, of which the way may take 14.6
    assert small.travel_s == pytest.approx(2 / SPEED_OF_SOUND)
    assert told.travel_s < 0.003
    assert told.confidence > 0.99


def test_distances_are_those_of_all_views():
    with pytest.raises(SyncError, match="the distance of a is missing") as raised:
        two_phones({"b": 8.0})
    assert "--distance a=3,b=3" in raised.value.hint


@pytest.mark.skipif(not SCENES.exists(), reason="the rendered scenes are not here")
@pytest.mark.parametrize("name", ["golf/test1", "hop_field", "karate_dojo"])
def test_the_true_clocks_of_rendered_scenes_are_within_the_error(name):
    """The sound's own error is far smaller than its distance from the clocks."""
    scene = read_scene(SCENES / name)
    found = sync(*(view.video for view in scene.views.values()), names=list(scene.views))
    for view, known in found.quality.items():
        away = np.abs(found.to_session(view, 2.0) - scene.views[view].clock.to_session(2.0))
        assert away < known.error_s
        if (name, view) != ("karate_dojo", "c"):
            assert away > 20 * known.offset_se_s


def test_unrelated_sound_is_refused():
    found = match_sounds(sound_of(claps(20, seed=1), RATE), sound_of(claps(20, seed=2), RATE))
    assert "no shared sound" in found.refusal
    assert found.quality.confidence < 0.5


def test_silence_is_refused():
    found = match_sounds(sound_of(claps(10), RATE), sound_of(np.zeros(10 * RATE, np.float32), RATE))
    assert "second recording is silent" in found.refusal


def test_missing_samples_count_as_silence():
    world = claps(30)
    a, b = recorded_by_phone(world, 0.0, 20), recorded_by_phone(world, 3.3, 20)
    b[4 * RATE : 6 * RATE], b[9 * RATE] = np.nan, np.inf
    found = match_sounds(sound_of(a, RATE), sound_of(b, RATE))
    assert not found.refusal
    assert float(found.clock.to_session(8.0)) == pytest.approx(11.3, abs=5e-5)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.9])
def test_hardly_any_sound_is_refused(seconds):
    found = match_sounds(sound_of(claps(10), RATE), sound_of(claps(10)[: round(seconds * RATE)], RATE))
    assert "empty" in found.refusal if seconds == 0 else "too little sound" in found.refusal


def test_one_recording_twice_is_found_to_be_a_copy():
    world = claps(20)
    found = match_sounds(sound_of(world, RATE), sound_of(0.5 * world, RATE))
    assert not found.refusal
    assert found.clock.offset_s == pytest.approx(0.0, abs=1e-6)
    assert found.clock.drift_ppm == pytest.approx(0.0, abs=0.5)
    assert found.copies


def test_two_microphones_are_no_copies():
    world, chance = claps(20), np.random.default_rng(3)
    noisy = [recorded_by_phone(world, start, 15) + 0.01 * chance.standard_normal(15 * RATE) for start in (0.0, 2.0)]
    assert not match_sounds(sound_of(noisy[0], RATE), sound_of(noisy[1], RATE)).copies


def test_twenty_seconds_of_eight_minutes_are_found():
    world = claps(480, seed=4)
    found = match_sounds(sound_of(world, RATE), sound_of(recorded_by_phone(world, 333.3, 20, ppm=-40), RATE))
    assert not found.refusal
    assert float(found.clock.to_session(10.0)) == pytest.approx(333.3 + 10 / (1 - 40e-6), abs=1e-4)


def test_recordings_one_after_the_other_are_refused():
    world = claps(40, seed=5)
    found = match_sounds(
        sound_of(recorded_by_phone(world, 0.0, 18), RATE), sound_of(recorded_by_phone(world, 20.0, 18), RATE)
    )
    assert found.refusal
    assert found.quality.confidence < 0.5


def test_a_metronome_is_refused_as_periodic():
    tick = np.zeros(30 * RATE, np.float32)
    shape = np.sin(2 * np.pi * 1800 * np.arange(400) / RATE) * np.exp(-np.arange(400) / 80)
    for start in range(RATE // 2, 29 * RATE, RATE):
        tick[start : start + 400] = shape
    chance = np.random.default_rng(6)
    noisy = [tick[at : at + 20 * RATE] + 0.003 * chance.standard_normal(20 * RATE) for at in (0, 5 * RATE + 1234)]
    assert "repeats itself" in match_sounds(sound_of(noisy[0], RATE), sound_of(noisy[1], RATE)).refusal


@pytest.mark.parametrize(("period", "start"), [(2.061, 2.061), (1.461, 1.476)])
def test_a_machine_or_a_bar_of_music_is_refused_whatever_part_of_it_both_recorded(period, start):
    """Whole periods nearer to the middle more is recorded by both, which must not make that delay the better one."""
    chance = np.random.default_rng(5)
    count = round(period * RATE)
    one = np.zeros(count)
    for beat in range(4):
        click = chance.standard_normal(600) * np.exp(-np.arange(600) / 80)
        one[beat * count // 4 : beat * count // 4 + 600] += click * (1.6 if beat == 0 else 1.0)
    world = np.tile(one, 20)
    a, b = world[: 16 * RATE], world[round(start * RATE) : round((start + 16) * RATE)]
    a, b = (view + 0.02 * chance.standard_normal(len(view)) for view in (a, b))
    found = match_sounds(sound_of(a.astype(np.float32), RATE), sound_of(b.astype(np.float32), RATE))
    assert "repeats itself" in found.refusal
    assert found.quality.confidence < 0.9


def test_loud_sounds_against_the_drift_of_all_the_rest_are_refused():
    world = claps(20)
    a, b = sound_of(world, RATE), sound_of(recorded_by_phone(world, 2.0, 15), RATE)
    lines, *_ = find_lines(a, b, SyncConfig())
    assert judge(lines, (0.0, 15.0))[1] == ""
    confidence, refusal = judge([replace(lines[0], rival=1.02 * lines[0].score)], (0.0, 15.0))
    assert "contradict each other" in refusal
    assert confidence < 0.5


def test_the_loud_sound_near_both_decides_the_offset_not_the_quiet_one_far_away():
    """A road 12 ms nearer to one phone never stops; the athlete is heard now and then, and louder."""
    near, chance = claps(40, seed=7, rate=0.4), np.random.default_rng(8)
    far = (0.01 * chance.standard_normal(40 * RATE)).astype(np.float32)
    shift = round(0.012 * RATE)
    a, b = 6 * near + far, 6 * near + np.roll(far, shift)
    found = match_sounds(sound_of(a[: 25 * RATE], RATE), sound_of(b[10 * RATE : 35 * RATE], RATE))
    assert float(found.clock.to_session(7.0)) - 7.0 == pytest.approx(10.0, abs=1e-4)


def test_steady_sound_under_noise_three_times_as_loud_is_aligned_by_its_waveform():
    """A road, and the wind at each microphone: nothing begins, so that the samples themselves must fit."""
    world = (0.05 * np.random.default_rng(9).standard_normal(40 * RATE)).astype(np.float32)
    a, b = (
        recorded_by_phone(world, start, 25) + 0.15 * np.random.default_rng(seed).standard_normal(25 * RATE)
        for seed, start in ((1, 0.0), (2, 4.2))
    )
    found = match_sounds(sound_of(a.astype(np.float32), RATE), sound_of(b.astype(np.float32), RATE))
    assert not found.refusal
    assert found.clock.offset_s == pytest.approx(4.2, abs=5e-5)


def test_claps_are_found_where_they_begin_and_quieter_or_slower_sounds_are_not():
    """On the clock of the view: its sound starts 0.5 s late, and a second of the file is half a second."""
    chance, loud = np.random.default_rng(17), {1.0: 1.0, 2.5: 0.6, 4.0: 0.9, 4.1: 0.9, 6.0: 0.1}
    sound = 0.001 * chance.standard_normal(8 * RATE)
    for at, height in loud.items():
        burst = height * np.exp(-np.arange(RATE // 10) / 300) * np.sign(chance.standard_normal(RATE // 10))
        sound[round(at * RATE) :][: len(burst)] += burst
    swell = np.hanning(RATE) * chance.standard_normal(RATE)
    sound[round(6.5 * RATE) :][: len(swell)] += 0.3 * swell
    found = find_claps(replace(sound_of(sound.astype(np.float32), RATE), start_s=0.5, slowdown=2.0))
    assert found == pytest.approx([0.5 + 2 * at for at in (1.0, 2.5, 4.0)], abs=0.012)


def test_at_most_forty_claps_are_found_and_they_are_the_loudest():
    chance, sound = np.random.default_rng(18), np.zeros(30 * RATE)
    heights = chance.permutation(np.linspace(0.5, 1.0, 55))
    for number, height in enumerate(heights):
        sound[round((1 + number / 2) * RATE) :][:1600] += height * np.exp(-np.arange(1600) / 200)
    found = find_claps(sound_of((sound + 0.001 * chance.standard_normal(len(sound))).astype(np.float32), RATE))
    expected = 1 + np.sort(np.argsort(-heights)[:40]) / 2
    assert found == pytest.approx(expected, abs=0.006)


# --- made recordings with the difficulties of real ones --------------------------------------------------------------


def in_a_room(sound: np.ndarray, *, seed: int) -> np.ndarray:
    """What a microphone of a room records: a duller or sharper sound, two hundred echoes, and a noise of its own."""
    chance = np.random.default_rng(seed)
    echoes = np.zeros(RATE // 4)
    echoes[0] = 1
    echoes[chance.integers(40, len(echoes), 200)] += 0.03 * chance.standard_normal(200)
    heard = np.convolve(sound, echoes)[: len(sound)]
    heard[1:] += chance.uniform(-0.6, 0.6) * heard[:-1]
    return (heard + 0.004 * chance.standard_normal(len(heard))).astype(np.float32)


def compressed(path: Path, samples: np.ndarray) -> np.ndarray:
    """The samples after a lossy file of 44.1 kHz, as `read_audio` gives them."""
    at = np.arange(len(samples) * 441 // 160) * 160 / 441
    data = (np.interp(at, np.arange(len(samples)), samples) * 20000).clip(-32768, 32767).astype(np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mp3", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(data[None], format="s16p", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return read_audio(path, rate=RATE).samples[:, 0]


def call(seed: int) -> np.ndarray:
    """A bird's call, 0.6 s: three whistles that glide between 1 and 4 kHz."""
    chance, time = np.random.default_rng(seed), np.arange(round(0.2 * RATE)) / RATE
    ends = chance.uniform(1000, 4000, (3, 2))
    phases = [2 * np.pi * (start * time + (end - start) * time**2 / 0.4) for start, end in ends]
    return np.concatenate([np.sin(phase) * np.hanning(len(time)) for phase in phases])


def heard_late(sound: np.ndarray, late_s: float, seconds: float, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A recording of so many seconds in which a sound begins `late_s` after its start."""
    at = np.arange(round(seconds * RATE)) - late_s * RATE
    heard = np.interp(at, np.arange(len(sound)), sound, left=0, right=0)
    return (heard + noise * np.random.default_rng(seed).standard_normal(len(heard))).astype(np.float32)


@pytest.mark.parametrize("lossy", [False, True])
def test_two_microphones_in_rooms_of_their_own_have_the_lag_of_the_sound(tmp_path, lossy):
    world = claps(40, seed=11)
    a, b = (in_a_room(recorded_by_phone(world, start, 25), seed=seed) for seed, start in ((1, 0.0), (2, 12.254)))
    if lossy:
        a, b = compressed(tmp_path / "a.mp3", a), compressed(tmp_path / "b.mp3", b)
    found = match_sounds(sound_of(a, RATE), sound_of(b, RATE))
    assert not found.refusal
    middle = found.middle_s
    assert float(found.clock.to_session(middle)) - middle == pytest.approx(12.254, abs=0.5e-3)


def test_made_pulses_every_300_ms_are_refused_and_their_lag_is_found_but_for_the_period():
    time = np.arange(12 * RATE) / RATE
    pulses = np.sin(2 * np.pi * 1000 * time) * ((time % 0.3) < 0.02)
    pair = [in_a_room(pulses[round(at * RATE) :][: 8 * RATE], seed=seed) for seed, at in ((1, 0.0), (2, 0.1))]
    found = match_sounds(*(sound_of(samples, RATE) for samples in pair))
    assert "repeats itself" in found.refusal
    periods = (found.clock.offset_s - 0.1) / 0.3
    assert periods == pytest.approx(round(periods), abs=1e-3 / 0.3)


@pytest.mark.parametrize("other", ["machine", "another talk"])
def test_made_recordings_of_different_events_are_refused(other):
    time, chance = np.arange(20 * RATE) / RATE, np.random.default_rng(4)
    machine = (1 + np.sin(2 * np.pi * 3.1 * time)) * chance.standard_normal(len(time)) * 0.05
    second = machine if other == "machine" else claps(20, seed=13, rate=3)
    pair = (in_a_room(sound, seed=seed) for seed, sound in enumerate([claps(20, seed=12, rate=3), second]))
    assert match_sounds(*(sound_of(samples, RATE) for samples in pair)).refusal


def test_a_made_call_of_one_second_is_too_short_to_be_sure():
    pair = (
        sound_of(heard_late(call(1), late, 1.0, noise=0.01, seed=seed), RATE) for seed, late in enumerate((0.1, 0.13))
    )
    assert "too little sound" in match_sounds(*pair).refusal


def test_one_made_call_at_five_receivers_comes_from_one_place():
    places = np.array([[0, 50], [50, 0], [20, 30], [30, 20], [-10, -15]])  # m
    travel_s = np.hypot(*(places - (10, 15)).T) / SPEED_OF_SOUND
    song = np.concatenate([call(seed) for seed in range(4)])
    sounds = [sound_of(heard_late(song, 0.3 + late, 3.0, noise=1e-3, seed=i), RATE) for i, late in enumerate(travel_s)]
    for first, second in combinations(range(5), 2):
        found = match_sounds(sounds[first], sounds[second])
        assert not found.refusal
        assert float(found.clock.to_session(1.5)) - 1.5 == pytest.approx(travel_s[first] - travel_s[second], abs=6e-5)


def test_a_made_call_that_is_cut_a_tenth_of_a_second_later_is_found_there():
    whole = heard_late(call(2), 0.2, 1.0, noise=0.02)
    pair = (sound_of(samples, RATE) for samples in (whole, whole[RATE // 10 :]))
    found = match_sounds(*pair, config=SyncConfig(min_overlap_s=0.5))
    assert not found.refusal
    assert float(found.clock.to_session(0.5)) - 0.5 == pytest.approx(0.1, abs=5e-5)


@pytest.mark.parametrize("number", range(5))
def test_a_made_call_among_echoes_and_wind_is_never_a_wrong_offset(number):
    """One second at places 19 m apart, wind as loud as the call: too little, even where one second is allowed."""
    pair = (
        in_a_room(heard_late(call(number), late, 1.0, noise=0.7, seed=2 * number + i), seed=20 + 2 * number + i)
        for i, late in enumerate((0.2, 0.2 + 19 / SPEED_OF_SOUND))
    )
    assert match_sounds(*(sound_of(samples, RATE) for samples in pair), config=SyncConfig(min_overlap_s=0.5)).refusal


# --- real recordings -------------------------------------------------------------------------------------------------


def recorded(name: str) -> Sound:
    """A real recording, from its first sample on."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip("the real recordings are not here")
    return sound_of(read_audio(path, rate=RATE).samples, RATE)


@pytest.mark.parametrize(
    ("first", "second", "lag", "within"),
    [
        ("pairs_bbc_offset_finder/timbl_1.mp3", "pairs_bbc_offset_finder/timbl_2.mp3", 12.254, 0.5e-3),
        ("pairs_bbc_offset_finder/timbl_1.mp3", "pairs_bbc_offset_finder/timbl_3.mp3", 12.24, 0.011),
        ("pairs_facesync/sample1.wav", "pairs_facesync/cosan_synctune.wav", 15.167, 0.007),
    ],
)
def test_real_recordings_have_their_known_lags(first, second, lag, within):
    found = match_sounds(recorded(first), recorded(second))
    assert not found.refusal
    middle = found.middle_s
    assert float(found.clock.to_session(middle)) - middle == pytest.approx(lag, abs=within)


def test_eleven_pulses_in_three_seconds_are_refused_and_their_known_lag_is_found():
    """One pulse later ten of them fit as well: that the eleventh is missing is no evidence to rely on."""
    kit = "pairs_google_audio_sync_kit"
    found = match_sounds(recorded(f"{kit}/latency_ref_1.wav"), recorded(f"{kit}/latency_act_1.wav"))
    assert "two delays 0.300 s apart fit alike" in found.refusal
    assert found.clock.offset_s == pytest.approx(0.0, abs=1e-3)


def test_pulses_every_300_ms_are_refused_and_their_known_lag_is_found_but_for_the_period():
    pair = (recorded(f"pairs_google_audio_sync_kit/latency_{which}_3.wav") for which in ("ref", "act"))
    found = match_sounds(*pair)
    assert "repeats itself" in found.refusal
    periods = (found.clock.offset_s - 0.1004) / 0.30012
    assert periods == pytest.approx(round(periods), abs=1e-3 / 0.3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sources_pyroomacoustics/exercise_bike.wav", "pairs_facesync/sample1.wav"),
        ("pairs_bbc_offset_finder/timbl_1.mp3", "pairs_bbc_offset_finder/r4_excerpt2.ogg"),
    ],
)
def test_real_recordings_of_different_events_are_refused(first, second):
    assert match_sounds(recorded(first), recorded(second)).refusal


def test_a_real_call_of_one_second_is_too_short_to_be_sure():
    pair = (recorded(f"pairs_opensoundscape/LOCA_2021_09_24_652_{number}.wav") for number in (3, 8))
    assert "too little sound" in match_sounds(*pair).refusal


def test_one_call_at_five_receivers_comes_from_one_place():
    """Made by shifting one signal: as it would arrive at these places from (10, 15), which explains all ten lags."""
    places = np.array([[0, 50], [50, 0], [20, 30], [30, 20], [-10, -15]])  # m, aru_coords.csv
    travel_s = np.hypot(*(places - (10, 15)).T) / SPEED_OF_SOUND
    sounds = [recorded(f"pairs_opensoundscape/aru_{number}.wav") for number in range(1, 6)]
    for first, second in combinations(range(5), 2):
        found = match_sounds(sounds[first], sounds[second])
        assert not found.refusal
        assert float(found.clock.to_session(1.5)) - 1.5 == pytest.approx(travel_s[first] - travel_s[second], abs=6e-5)


def test_a_real_call_that_is_cut_a_tenth_of_a_second_later_is_found_there():
    pair = (recorded(f"pairs_opensoundscape/LOCA_2021_09_24_652_{which}.wav") for which in ("8", "8_late_start"))
    found = match_sounds(*pair, config=SyncConfig(min_overlap_s=0.5))
    assert not found.refusal
    assert float(found.clock.to_session(0.5)) - 0.5 == pytest.approx(0.1, abs=5e-5)


@pytest.mark.parametrize("number", range(4, 9))
def test_a_real_call_over_19_meters_is_never_a_wrong_offset(number):
    """One second at places 19 m apart: too short by default, and still refused where one second is allowed."""
    pair = [recorded(f"pairs_opensoundscape/LOCA_2021_09_24_652_{which}.wav") for which in (3, number)]
    assert match_sounds(*pair, config=SyncConfig(min_overlap_s=0.5)).refusal
