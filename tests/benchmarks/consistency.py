"""What the multiview consistency loss costs: of a training step, and against a loop with an SVD for every clip.

    python tests/benchmarks/consistency.py                 on the CPU, one thread
    python tests/benchmarks/consistency.py --device cuda

The step is MotionBERT Lite on one clip of two views and 243 frames: forward, backward, Adam. The loop aligns one pair
of clips after the other and lets autograd differentiate the SVD, as a first implementation would. Both give the same
gradient, which is checked before anything is timed. On the CPU it is processor time of one thread that counts, so that
other work on the machine does not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from twoview.geometry.framing import Framing
from twoview.geometry.similarity import rooted
from twoview.lifters.dstformer import DSTformer
from twoview.machine import keep_memory
from twoview.training.clips import PairBatch
from twoview.training.losses import consistency, reprojection

SHAPES = ((6, 243), (96, 27), (96, 243))  # clips and frames: the paper's batch, the method phones', a large one


def pairs(clips: int, frames: int, device: str) -> tuple[PairBatch, Tensor]:
    """A batch of two views and a lifter's answer that does not quite agree with itself."""
    torch.manual_seed(0)
    body = torch.randn(clips, 1, frames, 17, 3)
    answer = (body + 0.2 * torch.randn(clips, 2, frames, 17, 3)).to(device)
    ones, eye = torch.ones(2 * clips), torch.eye(3).expand(2 * clips, 3, 3)
    size = torch.ones(2 * clips, 2)
    framing = Framing(eye, 0 * size, ones, ones, size)
    score = 0.1 + 0.9 * torch.rand(clips, 2, frames, 17)
    batch = PairBatch(answer[..., :2].cpu(), score, torch.zeros(clips, frames), framing).to(device)
    return batch, answer.requires_grad_()


def looped(batch: PairBatch, answer: Tensor) -> Tensor:
    """The same loss, one pair of clips and one direction at a time, through the derivative of the SVD."""
    points, losses = rooted(answer).flatten(2, 3), []
    for clip in range(len(answer)):
        weight = (batch.score[clip, 0] * batch.score[clip, 1]).flatten()[:, None]
        weight = weight / weight.sum()
        for first, second in ((0, 1), (1, 0)):
            a, b = points[clip, first], points[clip, second]
            a, b = a - (weight * a).sum(dim=0), b - (weight * b).sum(dim=0)
            u, s, vt = torch.linalg.svd((weight * b).T @ a)
            sign = torch.ones_like(s)
            sign[2] = torch.sign(torch.linalg.det(u @ vt))
            rotation = u @ torch.diag(sign) @ vt
            scale = (sign * s).sum() / (weight * a.square()).sum()
            losses.append((weight[:, 0] * (scale * a @ rotation.T - b).norm(dim=-1)).sum())
    return torch.stack(losses).mean()


def seconds(work: Callable[[], None], device: str, repeats: int) -> float:
    """Shortest time of some repeats, after one to warm up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(repeats + 1):
        started = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, clock() - started)
    return best


def gradient(loss: Callable[[PairBatch, Tensor], Tensor], batch: PairBatch, answer: Tensor) -> Tensor:
    """Value and gradient of a loss; the gradient is returned."""
    answer.grad = None
    loss(batch, answer).backward()
    assert answer.grad is not None
    return answer.grad


def compare_with_loop(device: str, repeats: int) -> None:
    """The table against the loop."""
    print(f"{'clips x frames':>14}  {'ours ms':>9}  {'loop ms':>9}  {'faster':>7}")
    for clips, frames in SHAPES:
        batch, answer = pairs(clips, frames, device)
        ours, theirs = (gradient(loss, batch, answer).clone() for loss in (consistency, looped))
        worst = float((ours - theirs).abs().max() / theirs.abs().max())
        assert worst < 1e-3, f"gradients differ by {worst:.1e}"
        fast = seconds(lambda b=batch, p=answer: gradient(consistency, b, p), device, repeats)  # type: ignore[misc]
        slow = seconds(lambda b=batch, p=answer: gradient(looped, b, p), device, max(repeats // 3, 1))  # type: ignore[misc]
        print(f"{clips:>6} x {frames:<5}  {fast * 1e3:>9.2f}  {slow * 1e3:>9.2f}  {slow / fast:>6.1f}x", flush=True)


def share_of_step(device: str, repeats: int) -> None:
    """Time of a step of MotionBERT Lite with and without the loss."""
    batch, answer = pairs(1, 243, device)
    lifter = DSTformer().to(device)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(lifter.parameters(), lr=2e-4)

    def step() -> None:
        optimizer.zero_grad()
        lifted = batch.lifted(lifter(batch.x))
        (reprojection(batch, lifted) + 0.3 * consistency(batch, lifted)).backward()
        optimizer.step()

    whole = seconds(step, device, repeats)
    alone = seconds(lambda: gradient(consistency, batch, answer), device, 5)  # type: ignore[arg-type,return-value]
    print(
        f"MotionBERT Lite, 1 clip x 2 views x 243 frames: step {whole:.2f} s, of which consistency {alone * 1e3:.2f} ms"
    )
    print(f"consistency is {alone / whole:.2%} of a training step")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-step", action="store_true", help="only the comparison with the loop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as training does; the loop gains as well
    compare_with_loop(options.device, options.repeats)
    if not options.no_step:
        share_of_step(options.device, 1 if options.device == "cpu" else options.repeats)


if __name__ == "__main__":
    main()
