"""A loss term of your own, beside the ones that are there.

python examples/05_own_loss.py
"""

import torch

from twoview.config import LossConfig
from twoview.geometry.framing import Framing
from twoview.geometry.similarity import bone_lengths
from twoview.skeleton import H36M17
from twoview.training import losses
from twoview.training.clips import PairBatch


def symmetry(batch: PairBatch, predicted: torch.Tensor) -> torch.Tensor:
    """Left and right bones of one person are equally long: mean difference, as a share of the length."""
    lengths = bone_lengths(predicted)  # (B, V, T, 16)
    bone_of = {child: index for index, (_, child) in enumerate(H36M17.bones)}
    left = lengths[..., [bone_of[a] for a, _ in H36M17.pairs]]
    right = lengths[..., [bone_of[b] for _, b in H36M17.pairs]]
    return ((left - right).abs() / (left + right).clamp(min=1e-6)).mean()


def main() -> None:
    # A term is any function of the batch and of what the lifter answered; the table makes it known by name.
    losses.LOSSES["symmetry"] = symmetry

    torch.manual_seed(0)
    clips, views, frames = 4, 2, 27
    screen = torch.randn(clips, views, frames, 17, 2)
    ones, eye = torch.ones(clips * views), torch.eye(3).expand(clips * views, 3, 3)
    framing = Framing(eye, ones, ones, torch.ones(clips * views, 2))
    batch = PairBatch(screen, torch.ones(clips, views, frames, 17), torch.zeros(clips, frames), framing)

    predicted = torch.cat([screen, 0.1 * torch.randn(clips, views, frames, 17, 1)], dim=-1).requires_grad_()
    terms = losses.total(batch, predicted, LossConfig())
    terms["symmetry"] = 0.1 * symmetry(batch, predicted)
    sum(terms.values()).backward()
    for name, value in terms.items():
        print(f"{name:14s} {value.item():.4f}")
    print(f"gradient on {int((predicted.grad != 0).any(dim=-1).sum())} joints")


if __name__ == "__main__":
    main()
