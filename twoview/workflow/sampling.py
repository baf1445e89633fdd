"""Which of very many takes are looked at: drawn by a seed, spread over athletes and, by their names, over movements."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from twoview.config import FinetuneConfig
from twoview.storage.session import Session

if TYPE_CHECKING:
    from twoview.takes import Take

FEWEST = 12  # takes that are learned from at least, where there are more than the steps need
Enough = Callable[["Take", float], bool]  # whether a take, of whose seconds all views see the athlete, is the last one


def spread(session: Session, names: Sequence[str], seed: int) -> Iterator[str]:
    """Names of takes in an order in which any first part is spread over athletes, and over an athlete's movements.

    Takes whose names are the same but for numbers show one movement. A take whose file is damaged is of nobody.
    """
    athlete = {name: who for who, takes in session.athletes().items() for name in takes}
    by_athlete: dict[str, dict[str, list[str]]] = {}
    for name in names:
        by_athlete.setdefault(athlete.get(name, ""), {}).setdefault(re.sub(r"[0-9]+", "", name), []).append(name)
    random = np.random.default_rng(seed)
    own = {who: in_turn(_mixed(kinds, random)) for who, kinds in by_athlete.items()}
    return in_turn(_mixed({who: list(takes) for who, takes in own.items()}, random, inside=False))


def _mixed(groups: Mapping[str, list[str]], random: np.random.Generator, *, inside: bool = True) -> list[list[str]]:
    """The groups in random order, and each of them too if `inside`."""
    found = [groups[name] for name in random.permutation(sorted(groups))]
    return [[group[i] for i in random.permutation(len(group))] for group in found] if inside else found


def in_turn(groups: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first of each group, then the second of each, and so on."""
    return (name for name in chain.from_iterable(zip_longest(*groups)) if name is not None)


def first(count: int) -> Enough:
    """Whether there are so many takes."""
    seen = 0

    def enough(_: Take, __: float) -> bool:
        nonlocal seen
        seen += 1
        return seen >= count

    return enough


def enough_for(config: FinetuneConfig) -> Enough:
    """Whether the takes so far have the clips that all steps of the method `phones` draw, and some to hold out."""
    from twoview.training.planning import drawn_clips, labeled_clips

    needed, count, have = drawn_clips(config) if config.method == "phones" else math.inf, 0, 0.0

    def enough(take: Take, seconds: float) -> bool:
        nonlocal count, have
        count, have = count + 1, have + labeled_clips(seconds, len(take.views), config)
        return have >= needed and count >= FEWEST

    return enough
