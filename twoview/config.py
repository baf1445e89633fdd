"""Settings: frozen dataclasses whose fields are the only place where a default, a bound and a meaning are written.

A wrong type or an impossible value is a ConfigError that names where it stands: in Python, or in the file or the option
that `command_settings` reads.
"""

from __future__ import annotations

import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from twoview.errors import ConfigError

T = TypeVar("T")
AXES = ("y-up", "z-up", "x-forward", "camera")  # of files for other programs
FRAMINGS = ("auto", "screen", "box", "crop")  # the lifter's own rule, and all rules of `geometry.framing`


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[Any] | None = None,
    unit: str = "",
    shapes: bool = True,
    kind: Any = None,
) -> Any:
    """A dataclass field with its meaning and its allowed values.

    unit      of the bounds and the default, such as "m" or "s"
    shapes    whether the value shapes the result; one that does not may change without making a result stale
    kind      type that a value must have, where the annotation is wider
    """
    allowed = None if choices is None else tuple(choices)
    about = {"help": help, "low": low, "high": high, "choices": allowed, "unit": unit, "shapes": shapes, "kind": kind}
    return field(default=default, metadata=about)


class Checked:
    """Base of all settings: every value is checked when the dataclass is built. Raises ConfigError."""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for entry in fields(self):  # type: ignore[arg-type]
            where = f"{type(self).__name__}.{entry.name}"
            value = checked(getattr(self, entry.name), hints[entry.name], entry.metadata, where)
            object.__setattr__(self, entry.name, value)


@dataclass(frozen=True)
class SyncConfig(Checked):
    """How the clocks of the views are related by sound or motion."""

    min_overlap_s: float = setting(2.0, "shortest time that two recordings must share", low=0.5, unit="s")
    max_drift_ppm: float = setting(300.0, "largest difference of clock rates that is searched", low=0.0, unit="ppm")
    sound_way_m: float = setting(
        5.0,
        "how much farther one phone may be from the source of the sound, where --distance does not say it",
        low=0.0,
        unit="m",
    )


@dataclass(frozen=True)
class DetectConfig(Checked):
    """How the athlete's 2D keypoints are found in every frame."""

    detector: Any = setting(  # noqa: RUF009
        "auto",
        "2D detector: rtmpose-m, movenet, an .onnx or .pth file, or package.module:Name; auto: the session's, else "
        "rtmpose-m where it is here or can be downloaded, else movenet, which is included",
        kind=str | Callable,
    )
    device: str = setting(
        "auto",
        "device to run on: auto, cpu, cuda, mps or directml; one that is not there stops the command",
        shapes=False,
    )
    finder: str = setting("", "person finder for RTMPose: a name of `twoview weights list` or an .onnx file")
    flip: bool = setting(False, "average with the mirrored picture: doubles the time, lowers the error by some percent")
    person: int | None = setting(None, "track number of the athlete in people.png; without it the likeliest person")
    sureness: float = setting(
        0.7,
        "sureness below which none of several people is taken for the athlete and --person is asked for; 0: never",
        low=0.0,
        high=1.0,
        shapes=False,
    )
    people_every: int = setting(10, "frames between two searches of the whole picture for people", low=1)
    score: float = setting(0.1, "score below which a joint counts as unseen", low=0.0, high=1.0)
    check: bool = setting(
        True,
        "compare imported detections with what movenet sees in a few frames; false: import them unchecked",
        shapes=False,
    )
    repair: bool = setting(True, "undo swapped left and right joints, and drop single-frame jumps")
    smooth: str = setting("none", "smoothing over time; none for training", choices=("none", "butterworth", "one-euro"))
    smooth_hz: float = setting(
        6.0, "cutoff frequency of the smoothing: 3 to 6 for walking, 6 to 15 for running", low=0.1, unit="Hz"
    )
    save_every_s: float = setting(30.0, "time between two saves of the partial result", low=0.0, unit="s", shapes=False)


@dataclass(frozen=True)
class ConsistencyConfig(Checked):
    """What the multiview consistency loss fits, and how."""

    align: str = setting(
        "sequence",
        "one transform per clip (sequence, as in the paper), per window, or per frame (moving cameras)",
        choices=("sequence", "window", "frame"),
    )
    window: int = setting(27, "frames that share one transform with align=window", low=1)
    scale: str = setting(
        "sequence",
        "one scale per transform, or every frame of every view scaled to unit size",
        choices=("sequence", "frame"),
    )
    direction: str = setting(
        "symmetric",
        "mean of fitting a to b and b to a, or a to b only as in the paper",
        choices=("symmetric", "forward"),
    )
    against: str = setting(
        "pairs", "compare all pairs of views, or every view with the mean of the views", choices=("pairs", "mean")
    )
    confidence: bool = setting(True, "weight joints by the product of both scores, in the fit and in the loss")
    robust: float = setting(0.0, "residual above which a joint is down-weighted, in screen units; 0: off", low=0.0)
    rigid: bool = setting(False, "fit no scale; for models that answer in meters")
    detach_transform: bool = setting(False, "treat the fitted transform as a constant in the gradient")


@dataclass(frozen=True)
class LossConfig(Checked):
    """Weight of each loss term, under its name in `losses.LOSSES`."""

    reprojection: float = setting(1.0, "confidence-weighted 2D loss, paper equation 7", low=0.0)
    consistency: float = setting(0.3, "multiview consistency, paper equations 1 to 4 and 8", low=0.0)
    position: float = setting(0.0, "MPJPE on 3D labels, paper equation 5 (1 there)", low=0.0)
    scale: float = setting(0.0, "N-MPJPE on 3D labels, paper equation 5 (0.5 there)", low=0.0)
    velocity: float = setting(0.0, "velocity error on 3D labels, paper equation 5 (20 there)", low=0.0)
    limb_variance: float = setting(0.0, "variance of bone lengths over time (MotionBERT)", low=0.0)
    limb_length: float = setting(0.0, "bone lengths against those of the labels (MotionBERT)", low=0.0)
    angle: float = setting(0.0, "angles between bones against the labels' (MotionBERT)", low=0.0)
    angle_velocity: float = setting(0.0, "changes of those angles (MotionBERT)", low=0.0)
    only_unlabeled_2d: bool = setting(False, "no 2D loss on takes with 3D labels, as the paper on Human3.6M")
    own: dict[str, float] = field(
        default_factory=dict, metadata={"help": 'your own terms and their weights: {"package.module:function" = 0.1}'}
    )
    alignment: ConsistencyConfig = field(default_factory=ConsistencyConfig)


@dataclass(frozen=True)
class TriangulateConfig(Checked):
    """How two uncalibrated views of a take become 3D."""

    height_m: float = setting(
        0.0,
        "standing height of the athlete; 0: no metric scale, results are in screen units",
        low=0.0,
        high=3.0,
        unit="m",
    )
    same_athlete: bool = setting(
        True, "all takes show one athlete by the same phones: bones and focal lengths are solved from all takes"
    )
    focal: str | float = setting(
        0.0,
        "focal length where it is known, for all views or for each: 1200 (px), 26mm (35 mm equivalent), a=1200,b=26mm; "
        "0: what the video file says, else estimated",
        low=0.0,
    )
    moving_s: float = setting(
        0.0, "time over which hand-held cameras count as still; 0: cameras on tripods", low=0.0, unit="s"
    )
    sync_sigma_s: float = setting(0.03, "standard deviation of the sync error", low=0.0, high=0.2, unit="s")
    pixel_noise: float = setting(
        0.01, "standard deviation of a joint with full score, as a share of the body's size", low=0.001, high=0.1
    )


@dataclass(frozen=True)
class PhonesConfig(Checked):
    """What the method `phones` learns from: pseudo-labels, also in virtual cameras, rehearsal, and the paper's loss."""

    steps_per_epoch: int = setting(7, "training steps in an epoch; the learning rate falls to 0 over all epochs", low=1)
    batch: int = setting(64, "clips with pseudo-labels per step", low=1)
    virtual: int = setting(32, "clips per step in virtual cameras, of turned takes and of rehearsal each", low=1)
    frames: int = setting(27, "frames per clip with pseudo-labels, at most finetune.clip_length", low=1)
    turned: float = setting(0.5, "weight of the triangulated takes rendered in virtual cameras", low=0.0)
    rehearsal: float = setting(0.5, "weight of rehearsal: generic clips with the unadapted lifter's answers", low=0.0)
    consistency: float = setting(0.3, "weight of the paper's consistency loss on the takes' clips; 0: off", low=0.0)
    swap: float = setting(0.7, "share of clips that get another clip's 2D errors", low=0.0, high=1.0)
    scale: float = setting(0.5, "weight of the scale-free error, paper equation 5", low=0.0)
    velocity: float = setting(20 / 27, "weight of the velocity error, paper equation 5 (20 of 27 frames)", low=0.0)
    sigma_m: float = setting(0.05, "standard deviation in meters at which a triangulated joint weighs half", low=0.001)


@dataclass(frozen=True)
class FinetuneConfig(Checked):
    """How a lifter is adapted to pairs of views."""

    method: str = setting(
        "phones",
        "phones: learn from the 3D of the triangulated takes; paper: minimize the losses of [finetune.loss]",
        choices=("phones", "paper"),
    )
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    weights: str = setting("twoview-small", "lifter to start from: a name, or a model or checkpoint file")
    epochs: int = setting(
        30,
        "epochs: phones.steps_per_epoch steps each with method phones, a pass over all clips with method paper",
        low=1,
    )
    batch: int = setting(
        6, "clips per step, each with all its views; 6 as in the paper's code; read by method paper only", low=1
    )
    lr: float = setting(2e-4, "Adam's learning rate, paper section 4.2", low=0.0)
    seed: int = setting(42, "random seed of clip order, flips and noise; 42 as in the paper's code", low=0)
    device: str = setting(
        "auto",
        "device to run on: auto, cpu, cuda or mps; one that is not there stops the command",
        shapes=False,
    )
    precision: str = setting(
        "auto",
        "precision of matrix products; auto: bf16 for the lifter tcn on hardware that multiplies in bf16, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    stride: float = setting(0.5, "step between two clips as a share of the clip's length", low=0.01, high=1.0)
    held_out: float = setting(
        0.2,
        "share of takes (of clips, where there is one take) kept for validation: the takes of one movement, where they "
        "show several, else the last",
        low=0.0,
        high=0.9,
    )
    flip: bool = setting(True, "mirror all views of half of the clips; read by method paper only")
    clip_length: int = setting(
        0,
        "frames per clip, and of what the adapted model then lifts at once; 0: the lifter's own; shorter takes are one "
        "clip",
        low=0,
    )
    framing: str = setting(
        "auto",
        "how pixels become screen units: screen, box or crop (MotionBERT's in the wild); auto: the lifter's own rule",
        choices=FRAMINGS,
    )
    rate_hz: float = setting(
        0.0,
        "frames per second of the clips, which the adapted model then reads; 0: those that the lifter reads",
        low=0.0,
        high=1000.0,
    )
    schedule: str = setting(
        "auto",
        "learning rate: constant (paper), linear to 0 (phones), or exponential by lr_decay; auto: as the method",
        choices=("auto", "constant", "linear", "exponential"),
    )
    lr_decay: float = setting(
        0.99, "factor on the learning rate per epoch with schedule=exponential (MotionBERT)", low=0.0, high=1.0
    )
    weight_decay: float = setting(0.0, "AdamW's weight decay; 0 is Adam, as in the paper", low=0.0)
    clip_norm: float = setting(1.0, "largest norm of the gradient; 0: no limit", low=0.0)
    checkpointing: str = setting(
        "all",
        "activation checkpointing: keep all activations, or only those at block boundaries (less memory, more time)",
        choices=("all", "blocks"),
    )
    devices: int = setting(1, "number of processes or GPUs on each machine", low=1, high=1024, shapes=False)
    nodes: int = setting(1, "number of machines", low=1, high=10_000, shapes=False)
    gate: bool = setting(
        True, "answer with the unadapted lifter where a pose is far from those of the takes; no: adapt it everywhere"
    )
    keep: str = setting(
        "best", "epoch that becomes the model: the best by the criterion, or the last", choices=("best", "last")
    )
    patience: int = setting(0, "epochs without improvement after which a run stops; 0: never", low=0)
    tensorboard: bool = setting(False, "also write curves for TensorBoard; needs the package tensorboard", shapes=False)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_ignored(self.method, (f"finetune.{f.name}" for f in fields(self) if getattr(self, f.name) != default(f)))


# Method of fine-tuning -> settings that it does not read, and what to set instead.
IGNORED = {
    "phones": {
        "finetune.batch": "set finetune.phones.batch",
        "finetune.flip": "this method always mirrors half of the clips",
        "finetune.loss": "the weights are in [finetune.phones]; or --method paper",
    },
    "paper": dict.fromkeys(("finetune.phones", "[triangulate]"), "--method phones"),
}


def refuse_ignored(method: str, names: Iterable[str]) -> None:
    """Raise ConfigError if one of these settings or sections has no effect with the method."""
    for name in names:
        if name in IGNORED[method]:
            raise ConfigError(f"{name} has no effect with method {method}", hint=IGNORED[method][name])


def default(entry: Field[Any]) -> Any:
    """The default of a field."""
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


@dataclass(frozen=True)
class CameraRange(Checked):
    """Where virtual phones stand and how they are turned. Ranges are uniform, but for those of a logarithm."""

    distance: tuple[float, float] = setting((2.0, 9.0), "from the athlete, uniform in the logarithm", unit="m")
    height: tuple[float, float] = setting((0.3, 2.6), "above the floor", unit="m")
    focal: tuple[float, float] = setting(
        (0.65, 1.3), "focal length in long sides of the picture, uniform in the logarithm"
    )
    azimuth: tuple[float, float] = setting(
        (-180.0, 180.0), "from the athlete's right side, counterclockwise from above", unit="degrees"
    )
    roll: float = setting(2.5, "standard deviation of the roll", low=0.0, unit="degrees")
    off_center: float = setting(
        1.0, "0 aims at the athlete, 1 puts the athlete anywhere in the picture", low=0.0, high=1.0
    )
    crop: tuple[float, float] = setting((0.5, 1.15), "least distance, where 1 just fits a standing person")


@dataclass(frozen=True)
class BodyRange(Checked):
    """How much bodies and movements differ from the captured ones."""

    height: tuple[float, float] = setting((0.85, 1.15), "factor to the captured body, uniform")
    build: float = setting(0.06, "sigma of the factor of each kind of bone", low=0.0)
    swapped_arms: float = setting(0.25, "share of clips with the arms of another clip", low=0.0, high=1.0)
    swapped_legs: float = setting(0.15, "share of clips with the legs of another clip", low=0.0, high=1.0)
    turned_limbs: float = setting(0.35, "share of clips in which each limb is turned", low=0.0, high=1.0)
    limb_turn: float = setting(0.5, "sigma of that turn", low=0.0, unit="rad")
    bent: float = setting(0.3, "share of clips in which the upper body is bent", low=0.0, high=1.0)
    bend: float = setting(0.3, "sigma of that bend", low=0.0, unit="rad")
    leaning: float = setting(0.25, "share of clips in which the whole body leans", low=0.0, high=1.0)
    lean: float = setting(0.5, "sigma of that lean", low=0.0, unit="rad")
    tumbling: float = setting(0.10, "share of clips in which the whole body tumbles", low=0.0, high=1.0)
    mirrored: float = setting(0.5, "share of clips that are mirrored", low=0.0, high=1.0)


@dataclass(frozen=True)
class NoiseModel(Checked):
    """Errors of a detector, as shares of the athlete's box: the longer side of the box around all joints of a frame."""

    joint: tuple[float, ...] = setting(
        (1.0, 1.1, 1.0, 1.3, 1.1, 1.0, 1.3, 0.8, 0.8, 0.7, 0.7, 1.0, 1.2, 1.5, 1.0, 1.2, 1.5),
        "17 factors to the level, one per joint",
    )
    level: tuple[float, float] = setting((0.003, 0.012), "sigma per axis, one value per clip, uniform in the logarithm")
    bias: float = setting(0.6, "part of sigma that is constant over a clip", low=0.0)
    smooth: float = setting(0.6, "part of sigma that is correlated over some frames", low=0.0)
    white: float = setting(0.5, "part of sigma that is independent in each frame", low=0.0)
    correlation: int = setting(5, "frames over which the smooth part is correlated", low=1)
    outliers: float = setting(0.01, "share of joints far off", low=0.0, high=1.0)
    outlier_size: float = setting(0.06, "sigma of those", low=0.0)
    missing: float = setting(0.02, "share of joints that are unseen", low=0.0, high=1.0)
    blind: float = setting(0.01, "share of joints that are unseen for a whole clip", low=0.0, high=1.0)
    swaps: float = setting(
        0.03, "share of clips in which left and right legs, or arms, are swapped for a while", low=0.0, high=1.0
    )
    confidence: float = setting(
        0.03, "error at which the score has fallen to a half; varies by a factor of 2 from clip to clip", low=1e-6
    )


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """How a lifter is trained from motion capture through virtual cameras."""

    lifter: str = setting("tcn", "name in the lifter table, or package.module:Class")
    lifter_settings: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "settings of the lifter's class; what is left out keeps its default"}
    )
    data: tuple[str, ...] = setting((), "prepared motion capture files to train on")
    validation: tuple[str, ...] = setting(
        (), "prepared files of other people to measure on; nothing is chosen by them", shapes=False
    )
    seed: int = setting(0, "seed of weights, cameras, noise and order", low=0)
    steps: int = setting(12_000, "training steps; the learning rate falls to 0 at the last one", low=1)
    frames: int = setting(4096, "frames per step, split into clips of one length", low=1)
    optimizer: str = setting(
        "muon", "muon for the hidden matrices and adamw for the rest, or adamw", choices=("muon", "adamw")
    )
    lr: float = setting(5e-3, "highest learning rate, reached after the warm-up", low=0.0)
    lr_rest: float = setting(1e-3, "highest learning rate of the weights that Muon leaves to AdamW", low=0.0)
    warmup: int = setting(300, "steps over which the learning rate rises", low=1)
    weight_decay: float = setting(0.01, "weight decay of both optimizers", low=0.0)
    scale: float = setting(0.5, "weight of the scale-free error, paper equation 5", low=0.0)
    velocity: float = setting(0.75, "weight of the velocity error, paper equation 5 (20 of 27 frames)", low=0.0)
    rate: float = setting(30.0, "frames per second that the lifter reads", low=1.0)
    converted: float = setting(
        0.5, "share of clips with joints converted from a COCO detector's definition", low=0.0, high=1.0
    )
    noise: tuple[str, ...] = setting(
        (), "JSON files of measured detector errors, used in turn with those of pretrain.detector"
    )
    noise_from: int = setting(0, "first step that uses the measured errors", low=0)
    average: float = setting(0.999, "decay of the averaged weights that are kept", low=0.0, high=1.0)
    cameras: CameraRange = field(default_factory=CameraRange)
    bodies: BodyRange = field(default_factory=BodyRange)
    detector: NoiseModel = field(default_factory=NoiseModel)
    precision: str = setting(
        "auto",
        "precision of matrix products; auto: bf16 for the lifter tcn on hardware that multiplies in bf16, else fp32",
        choices=("auto", "fp32", "bf16"),
    )
    device: str = setting("auto", "device to train on and to render the clips on: auto, cpu, cuda or mps", shapes=False)
    save_every: int = setting(200, "steps between two saves of the run's state", low=1, shapes=False)
    validate_every: int = setting(1000, "steps between two validations", low=1, shapes=False)


@dataclass(frozen=True)
class InferConfig(Checked):
    """How the poses of one view become 3D."""

    flip: bool = setting(True, "average with the prediction for the mirrored input")
    height_m: float = setting(
        0.0,
        "standing height of the athlete; 0: no metric scale, results are in screen units",
        low=0.0,
        high=3.0,
        unit="m",
    )
    focal: float = setting(
        0.0, "focal length of the camera where it is known; 0 assumes 0.8 of the longer side", low=0.0, unit="px"
    )
    framing: str = setting(
        "auto",
        "how pixels become screen units: screen, box or crop (MotionBERT's in the wild); auto: the lifter's own rule",
        choices=FRAMINGS,
    )
    max_gap_s: float = setting(
        0.1, "longest time without a detection of a joint that is interpolated", low=0.0, unit="s"
    )
    windows: int = setting(
        3,
        "windows of the lifter that hold a frame and are averaged; 2 lifts in two thirds of the time, and is worse by "
        "some tenths of a mm",
        choices=(2, 3, 4),
    )
    precision: str = setting("fp32", "precision of matrix products", choices=("fp32", "bf16", "fp16"))
    compile: bool = setting(False, "compile the network first; takes minutes, pays off on long videos")
    device: str = setting(
        "auto",
        "device to run on: auto, cpu, cuda or mps; one that is not there stops the command",
        shapes=False,
    )


@dataclass(frozen=True)
class FilterConfig(Checked):
    """How 3D poses are smoothed over time and their gaps filled; nothing is done unless it is asked for."""

    kind: str = setting(
        "none", "smoothing of 3D poses; butterworth has no lag", choices=("none", "butterworth", "one-euro")
    )
    cutoff_hz: float = setting(
        6.0,
        "frequency of which butterworth leaves 71 % (-3 dB, both passes together); of one-euro, for a body at rest: "
        "3 to 6 for walking, 6 to 15 for running, more for impacts",
        low=0.1,
        unit="Hz",
    )
    order: int = setting(4, "order of butterworth, forwards and backwards together", choices=(2, 4, 6, 8))
    rise: float = setting(
        10.0,
        "how much one-euro's cutoff rises with speed, in Hz per m/s of a body of common size",
        low=0.0,
        high=1000.0,
    )
    fill_s: float = setting(
        0.0, "longest time between two frames that know a joint over which the joint is filled in; 0: off", low=0.0,
        unit="s",
    )  # fmt: skip

    @property
    def is_on(self) -> bool:
        """Whether it changes anything."""
        return self.kind != "none" or self.fill_s > 0


@dataclass(frozen=True)
class WorldConfig(Checked):
    """In which axes files for other programs are, and what tells where up is."""

    axes: str = setting(
        "y-up",
        "axes of files for other programs: y-up (x right, z to the camera), z-up (x right, y away), x-forward (x where "
        "the athlete faces, y up: OpenSim's) or camera (x right, y down, z away)",
        choices=AXES,
        shapes=False,
    )
    level: bool = setting(False, "take the phones as level: the picture's up is up, whatever feet and balance say")
    camera: str = setting(
        "",
        "view, or take/view, of a triangulated take whose phone filmed this video from the same place: its up and "
        "focal length are used; read by infer only",
    )


# Old name or value -> the new one, for the error message.
RENAMED = {
    "finetune.phones.steps": "finetune.phones.steps_per_epoch (times finetune.epochs)",
    "finetune.phones.doubt_m": "finetune.phones.sigma_m",
    "finetune.phones.triangulate": "[triangulate], which finetune reads too",
    "finetune.remember": "finetune.checkpointing",
    "finetune.loss.only_unlabelled_2d": "finetune.loss.only_unlabeled_2d",
    "triangulate.late_s": "triangulate.sync_sigma_s",
    "32-true": "fp32",
    "bf16-mixed": "bf16",
    "16-mixed": "fp16",
}


@dataclass(frozen=True)
class ClusterConfig(Checked):
    """What a job asks of Slurm, where `--on slurm` has tasks done by jobs; nothing here shapes a result."""

    partition: str = setting("", "partition, or several: gpu,long; empty: the cluster's own default", shapes=False)
    account: str = setting("", "account that the time is charged to", shapes=False)
    qos: str = setting("", "quality of service", shapes=False)
    constraint: str = setting("", "features that a node must have", shapes=False)
    minutes: int = setting(240, "longest time of a job; one that needs more goes on in a second", low=1, shapes=False)
    memory_gb: float = setting(8.0, "memory of a job", low=0.5, shapes=False, unit="GB")
    cores: int = setting(2, "processor cores of a job", low=1, shapes=False)
    gpus: int = setting(0, "graphics cards of a job", low=0, shapes=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("partition", "account", "qos", "constraint"):
            if not _WORD.fullmatch(getattr(self, name)):  # these become lines of a script that a shell reads
                raise ConfigError(f"cluster.{name} {getattr(self, name)!r} is no name that Slurm has")


_WORD = re.compile(r"[\w.,:&|*()\[\]=-]*")


@dataclass(frozen=True)
class Settings:
    """Every section's settings, as a command reads them from defaults, file, flags and `--set`."""

    sync: SyncConfig = field(default_factory=SyncConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    infer: InferConfig = field(default_factory=InferConfig)
    triangulate: TriangulateConfig = field(default_factory=TriangulateConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


SECTIONS: dict[str, type[Checked]] = typing.get_type_hints(Settings)


def _explained(kind: type) -> str:
    """A docstring that explains every setting: default with unit, allowed values, meaning."""
    lines = [kind.__doc__ or "", ""]
    for entry in fields(kind):
        about, value = entry.metadata, default(entry)
        if not about.get("help"):
            lines.append(f"    {entry.name}  a group of settings: {type(value).__name__}")
            continue
        unit = f" {about['unit']}" if about.get("unit") and isinstance(value, int | float) else ""
        bounds = f"; {allowed(about)}" if allowed(about) else ""
        lines.append(f"    {entry.name} = {value!r}{unit}{bounds}")
        lines.append(f"        {about['help']}")
    return "\n".join(lines)


def to_plain(config: Any) -> dict[str, dict[str, Any]]:
    """The resolved config as sections that `--config` reads back."""
    section = next(name for name, kind in SECTIONS.items() if kind is type(config))
    return {section: asdict(config)}


def shaping(config: Any) -> dict[str, Any]:
    """The settings that shape a result, as plain values that come back the same from a JSON file."""
    shown = [entry for entry in fields(config) if entry.metadata.get("shapes", True)]
    values = {entry.name: getattr(config, entry.name) for entry in shown}
    return {
        name: shaping(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def allowed(about: Mapping[str, Any]) -> str:
    """The values that a setting may have, by its field's metadata; empty where its type alone says so."""
    low, high, choices, unit = (about.get(key) for key in ("low", "high", "choices", "unit"))
    if choices:
        return "one of " + ", ".join(map(str, choices))
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None]
    return " and ".join(bounds) + (f" {unit}" if bounds and unit else "")


def hints_of(kind: Any) -> Mapping[str, Any]:
    """Name -> type that a value must have, of every field of a dataclass."""
    return _hints(kind)


@cache  # evaluating annotations takes most of the time in which the command line starts
def _hints(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {entry.name: entry.metadata.get("kind") or hints[entry.name] for entry in fields(kind)}


def checked(value: Any, hint: Any, about: Mapping[str, Any], where: str) -> Any:
    """The value in the setting's type. Raises ConfigError for another type, and for a value that is not allowed."""
    value = _typed(value, hint, where)
    low, high, choices = (about.get(key) for key in ("low", "high", "choices"))
    bad = choices is not None and value not in choices
    hint_of = ""
    if bad and value in RENAMED:
        raise ConfigError(f"{where}: {value} is now {RENAMED[value]}")
    if isinstance(value, int | float):
        bad |= (low is not None and value < low) or (high is not None and value > high)
        in_meters = [
            value / factor for factor in (100, 1000) if about.get("unit") == "m" and value > (high or math.inf)
        ]
        likely = next((one for one in in_meters if low is None or low < one <= (high or 0)), None)
        hint_of = "" if likely is None else f"it is in meters: {likely:g}?"
    if bad:
        raise ConfigError(f"{where} should be {allowed(about)}, got {value!r}", hint=hint_of)
    return value


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as `hint` asks for: whole numbers become floats, lists tuples. Raises ConfigError for another type."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(typing.get_origin(option) or option for option in options)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if number and int in plain and isinstance(value, numbers.Integral):
        if abs(int(value)) >= 1 << 63:
            raise ConfigError(f"{where} should be a whole number below 2^63, got {value!r}")
        return int(value)
    if number and float in plain:
        if not math.isfinite(value):
            raise ConfigError(f"{where} should be a finite number, got {value!r}")
        return float(value)
    if isinstance(value, list) and tuple in plain:
        value = tuple(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        raise ConfigError(f"{where} should be {type_name(hint)}, got {value!r}")
    inner = typing.get_args(hint)
    if isinstance(value, tuple):
        if ... not in inner and len(value) != len(inner):
            raise ConfigError(f"{where} should be {len(inner)} values, got {list(value)}")
        return tuple(_typed(one, inner[0], where) for one in value)
    if isinstance(value, Mapping) and inner[1] is not Any:
        return {key: _typed(one, inner[1], f"{where}.{key}") for key, one in value.items()}
    return value


def type_name(hint: Any) -> str:
    """A setting's type in words, such as "int or None"."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    names = [(typing.get_origin(option) or option).__name__ for option in options]
    return " or ".join("None" if name == "NoneType" else name for name in names)


for _kind in Checked.__subclasses__():
    _kind.__doc__ = _explained(_kind)
