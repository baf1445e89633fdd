"""What runs on a CPU runs on a graphics card as well: pretraining, both methods of adaptation, and lifting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from people import standing_people

from twoview.config import FinetuneConfig, InferConfig, PhonesConfig, PretrainConfig
from twoview.datasets.motion import Motion
from twoview.lifting.model import load_model
from twoview.training.pretraining import pretrain

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
SMALL = {"width": 32, "dilations": [1, 3]}


@pytest.mark.parametrize(
    ("lifter", "settings"), [("tcn", SMALL), ("dstformer", {"dim_feat": 16, "num_heads": 2, "depth": 1, "maxlen": 81})]
)
def test_pretraining(tmp_path, lifter, settings):
    motions = [Motion(f"m{i}", m.numpy(), 60.0) for i, m in enumerate(standing_people(4, 120))]
    config = PretrainConfig(
        lifter=lifter, lifter_settings=settings, device="cuda", steps=4, warmup=1, save_every=2, validate_every=4
    )
    model = pretrain(config, motions, out=tmp_path, validation={"held": motions})
    assert all(torch.isfinite(value).all() for value in model.lifter.state_dict().values())


def test_lifting_equals_the_processor():
    from small_takes import take

    from twoview.lifting.inference import infer

    poses = take().poses["a"]
    on_card = infer(poses, load_model("twoview-small", "cuda"), config=InferConfig(device="cuda"))
    on_processor = infer(poses, load_model("twoview-small", "cpu"), config=InferConfig(device="cpu"))
    np.testing.assert_allclose(on_card.xyz, on_processor.xyz, atol=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["paper", "phones"])
def test_adaptation(tmp_path, method, precision):
    from small_takes import take

    from twoview.training.finetuning import finetune

    takes = [take(f"take{index}", seconds=3.0, seed=index) for index in range(2)]
    phones = PhonesConfig(steps_per_epoch=3) if method == "phones" else PhonesConfig()
    config = FinetuneConfig(method=method, epochs=1, device="cuda", precision=precision, clip_length=27, phones=phones)
    run = finetune(takes, config, out=tmp_path / "run")
    assert np.isfinite(list(run.after.values())).all()
