"""How the shipped real pair was made: two cameras of the Pose2Sim demonstration with a sound track laid under both.

    python docs/make_real_pair.py POSE2SIM_VIDEOS SOUNDS OUT     # cam02.mp4, cam03.mp4; rir_clap.wav, xmas.wav

Camera b loses its first quarter of a second, as if that phone had been started later, so that the clocks differ by a
known 0.25 s. The sound is not of the scene: a hand clap and a spoken sentence, with a different noise and tone in each
file.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import butter, resample_poly, sosfilt

from twoview.media.audio import Audio
from twoview.media.video import frames, probe
from twoview.media.writer import VideoWriter

RATE = 48000
LATER_S = 0.25
SECONDS = 4.5


def sound(folder: Path) -> np.ndarray:
    """A clap at 0.4 s and a sentence from 1.2 s, mono."""
    track = np.zeros(round(SECONDS * RATE))
    for name, start, gain in (("rir_clap.wav", 0.4, 0.5), ("xmas.wav", 1.2, 0.4)):
        rate, samples = wavfile.read(folder / name)
        mono = samples.reshape(len(samples), -1).astype(np.float64).mean(axis=1)
        mono = resample_poly(mono / np.abs(mono).max(), RATE, rate)
        first = round(start * RATE)
        piece = mono[: len(track) - first]
        track[first : first + len(piece)] += gain * piece
    return track


def main(videos: Path, sounds: Path, out: Path) -> None:
    """Write both views into the folder `out`."""
    track, random = sound(sounds), np.random.default_rng(1)
    for view, camera, later, cutoff in (("a", "cam02", 0.0, 12000), ("b", "cam03", LATER_S, 6000)):
        heard = sosfilt(butter(2, cutoff, fs=RATE, output="sos"), track[round(later * RATE) :])
        heard = heard + 0.003 * random.standard_normal(len(heard))
        audio = Audio(heard.astype(np.float32)[:, None], RATE, 0.0)
        info = probe(videos / f"{camera}.mp4")
        with VideoWriter(out / f"view_{view}.mp4", info.size, info.rate, audio=audio) as writer:
            for frame in frames(videos / f"{camera}.mp4", start=later - 1e-4 if later else None):
                writer.write(frame.rgb, time=frame.time - later)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
