"""The numeric fingerprint of MotionBERT's network: recipes for weights and input, and what the original answers.

The numbers in `data/dstformer_fingerprint.json` were computed with the original in float64; `data/dstformer_keys.txt`
lists its weights. The recipes make every value from its name's place in the alphabet, so nothing big is stored.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
FINGERPRINT = json.loads((DATA / "dstformer_fingerprint.json").read_text())
SIZES = tuple(FINGERPRINT["configs"])
NORMS = ("norm", "norm1_s", "norm1_t", "norm2_s", "norm2_t")


def listed() -> list[tuple[str, tuple[int, ...], tuple[int, ...], str]]:
    """Every weight: name, shape in full, shape in Lite, name in mmpose's port."""
    rows = (line.split(" | ") for line in (DATA / "dstformer_keys.txt").read_text().splitlines() if line[0] != "#")
    return [(name, shape(full), shape(lite), mmpose) for name, full, lite, mmpose in rows]


def shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.strip("()").split(",") if n.strip())


def filled(like: dict[str, torch.Tensor], fill: str) -> dict[str, torch.Tensor]:
    """Weights of the names and shapes in `like`, by recipe "A" (smooth) or "B" (hashed: shows every mistake)."""
    place = {key: k for k, key in enumerate(sorted(like))}
    return {key: made(key, place[key], like[key].shape, fill) for key in like}


def made(key: str, k: int, size: torch.Size, fill: str) -> torch.Tensor:
    index = np.arange(int(np.prod(size)), dtype=np.uint64)
    norm = key.endswith(".weight") and key.split(".")[-2] in NORMS
    if fill == "A":
        values = 0.02 * np.sin(0.1 * index + k) + norm
    else:
        spread = 2 * hashed(index + np.uint64((k + 1) * 0x9E3779B9 % 2**32)) / 2**32 - 1
        weight = 0.5 if key.endswith("_embed") else 2 / np.sqrt(size[1]) if len(size) == 2 else 0.1
        values = weight * spread + norm
    return torch.from_numpy(values.reshape(size))


def hashed(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's finaliser of 32-bit numbers held in 64 bits."""
    low = np.uint64(2**32 - 1)
    h = h & low
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & low
    return (h ^ (h >> np.uint64(16))).astype(np.float64)


def asked(batch: int, frames: int) -> torch.Tensor:
    """The input (B, T, 17, 3) in float64."""
    b, f, j = np.meshgrid(np.arange(batch), np.arange(frames), np.arange(17), indexing="ij")
    x = np.sin(0.35 * f + 0.9 * j + 1.3 * b), np.cos(0.27 * f - 0.8 * j + 0.7 * b)
    return torch.from_numpy(np.stack([*x, 0.5 + 0.5 * np.cos(0.11 * f + 0.5 * j + 0.3 * b)], axis=-1))


def distance(answer: torch.Tensor, expected: dict) -> float:
    """Largest difference to the stored values; the checksum over everything counts with its own size taken out."""
    flat = answer.detach().double().flatten().numpy()
    assert list(answer.shape) == expected["shape"]
    single = max(abs(flat[int(at)] - value) for at, value in expected["at"].items())
    total = flat @ np.cos(0.013 * np.arange(len(flat))) - expected["weighted_checksum"]
    return float(max(single, abs(flat.std() - expected["std_population"]), abs(total) / np.sqrt(len(flat))))
