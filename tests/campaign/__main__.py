"""A seeded campaign against twoview: kills, damaged files, absurd values, full disks, commands at once, the network.

    python tests/campaign --minutes 60            until the time is over; prints tried and bad by kind
    python tests/campaign --minutes 60 --seed 7
    python tests/campaign --short                 the form that the tests run, under a minute
    python tests/campaign --only damage --seed 7 --cases 40

Every command runs in a process of its own under an audit hook. Bad is: code from a file that ran, a change outside of
the folder, a call of the network, a lost or half-written file, a result that silently differs, a traceback, a hang.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import commands
import company
import damage
import kills
import small_session
import troubles
import values
from cases import Bench

KINDS = {"kills": kills, "damage": damage, "values": values, "disk": troubles, "company": company}
SHARES = {"kills": 0.35, "damage": 0.25, "values": 0.1, "disk": 0.15, "company": 0.15}  # of the time
SHORT = {"kills": 4, "damage": 30, "values": 12, "disk": 3, "company": 1}  # cases


def main() -> None:
    """Run the campaign and print its table; exit code 1 where anything is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--cases", type=int, default=0, help="so many of each kind instead of a time")
    parser.add_argument("--log", type=Path, help="file with a JSON line for every case")
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="campaign"))
    try:
        commands.preload()
        bad = campaign(Bench(small_session.build(place / "small"), place), args)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    raise SystemExit(1 if bad else 0)


def campaign(bench: Bench, args: argparse.Namespace) -> int:
    """Run every kind for its share of the time; how many cases were bad."""
    rows, total = [], 0
    for kind, module in KINDS.items():
        if args.only not in (None, kind):
            continue
        begun, tried, bad = time.monotonic(), 0, 0
        share = 1.0 if args.only else SHARES[kind]
        most = SHORT[kind] if args.short else args.cases
        for name, trial in module.cases(bench, Random(zlib.crc32(kind.encode()) + args.seed)):
            if tried >= most if most else time.monotonic() - begun > 60 * args.minutes * share:
                break
            found = trial()
            tried, bad = tried + 1, bad + bool(found)
            if found:
                print(f"BAD {kind}: {name}", *found[:4], sep="\n    ", flush=True)
            if args.log:
                with args.log.open("a") as file:
                    file.write(json.dumps({"kind": kind, "case": name, "bad": found}) + "\n")
        rows.append((kind, tried, bad, time.monotonic() - begun))
        total += bad
    print(f"{'kind':10}{'tried':>8}{'bad':>6}{'minutes':>9}   (seed {args.seed})")
    for kind, tried, bad, seconds in rows:
        print(f"{kind:10}{tried:8}{bad:6}{seconds / 60:9.1f}")
    return total


if __name__ == "__main__":
    main()
