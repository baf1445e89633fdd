"""twoview: adapt a monocular 3D human-pose model to a new activity from two ordinary phone videos.

Names below are resolved on first use, so that `import twoview` is fast. `docs/explain/architecture.md` describes the
modules.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Waiting OpenMP threads spin by default: on a busy machine two of them are 10 to 60 times slower than one. This must be
# set before torch is loaded, and this file is the first that anyone loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ONNX Runtime looks its makers' host up and writes an identity to the disk unless this is set before it is loaded, by
# `machine.onnx_runtime` or by another package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_NAMES = {
    "TwoViewError": "errors",
    "Progress": "progress",
    "Skeleton": "skeleton",
    "COCO17": "skeleton",
    "HALPE26": "skeleton",
    "H36M17": "skeleton",
    "Poses2D": "poses",
    "Poses3D": "poses",
    "World": "poses",
    "ClockMap": "timeline",
    "Sync": "timeline",
    "Timeline": "timeline",
    "Session": "storage.session",
    "open_session": "storage.session",
    "SyncConfig": "config",
    "DetectConfig": "config",
    "FinetuneConfig": "config",
    "PretrainConfig": "config",
    "InferConfig": "config",
    "FilterConfig": "config",
    "WorldConfig": "config",
    "Take": "takes",
    "sync": "synchronization.audio",
    "detect": "detection.pipeline",
    "finetune": "training.finetuning",
    "export": "lifting.model_export",
    "infer": "lifting.inference",
    "evaluate": "evaluation.scoring",
    "angles": "biomechanics.angles",
    "find_swing": "biomechanics.events",
    "find_contacts": "biomechanics.events",
    "find_jumps": "biomechanics.events",
    "travelled": "biomechanics.events",
    "in_world": "biomechanics.world",
    "filter_poses": "biomechanics.filtering",
    "render": "visualization.overlay",
    "demo": "workflow.demo",
    "doctor": "workflow.checkup",
    "run": "workflow.main_job",
    "load_model": "lifting.model",
    "convert": "lifting.model",
    "pretrain": "training.pretraining",
    "triangulate": "reconstruction.triangulation",
    "triangulate_session": "workflow.triangulation",
    "plan": "training.planning",
    "reproduce": "workflow.reproduction",
    "remove": "workflow.takes",
    "rename": "workflow.takes",
    "TriangulateConfig": "config",
    "ClusterConfig": "config",
    "Workers": "workers.places",
    "load": "workflow.stages",
}

__all__ = sorted([*_NAMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'twoview' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"twoview.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
