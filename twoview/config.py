"""Settings: frozen dataclasses whose fields are the only place a default is written.

Order: defaults < `--config file.toml` < flags < `--set finetune.loss.consistency=0.5`. An unknown name, a wrong type or
an impossible value is a ConfigError that names the file, the key and the nearest key there is.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from twoview.errors import ConfigError

T = TypeVar("T")
_PRESETS = Path(__file__).parent / "assets" / "presets"  # files that --config finds by name: paper_sportspose, l2d, ...


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[Any] | None = None,
) -> Any:
    """A dataclass field with its meaning (unit and source included) and its allowed values."""
    allowed = None if choices is None else tuple(choices)
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": allowed})


@dataclass(frozen=True)
class SyncConfig:
    """How clocks are related from sound or motion."""

    min_overlap_s: float = setting(2.0, "seconds that two recordings must share at least", low=0.5)
    max_drift_ppm: float = setting(300.0, "largest difference of clock rates searched for, parts per million", low=0.0)


@dataclass(frozen=True)
class DetectConfig:
    """How the athlete is found in every frame."""

    detector: str = setting("rtmpose-m", "name in the detector table, an .onnx or .pth file, or package.module:Name")
    device: str = setting("auto", "auto, cpu or cuda; honored or refused, never replaced")
    finder: str = setting(
        "", "who finds people for RTMPose: a name of the weights table or an .onnx file; empty: its own"
    )
    flip: bool = setting(False, "average with the mirrored picture: twice the time, some percent less error")
    person: int | None = setting(None, "track of the athlete, as numbered in people.png; empty: the likeliest")
    people_every: int = setting(10, "frames between two searches of the whole picture for people", low=1)
    score: float = setting(0.1, "joints below this score are marked unseen", low=0.0, high=1.0)
    repair: bool = setting(True, "put exchanged left and right back and drop lone jumps, from the motion")
    smooth: str = setting("none", "smoothing over time; none for training", choices=("none", "butterworth", "one-euro"))
    smooth_hz: float = setting(6.0, "cutoff of the smoothing: 3 to 6 walking, 6 to 15 running", low=0.1)
    save_every_s: float = setting(30.0, "seconds between two saves of the partial result", low=1.0)


@dataclass(frozen=True)
class ConsistencyConfig:
    """What the multiview consistency loss fits, and how."""

    align: str = setting(
        "sequence",
        "one transform a clip (paper), a frame (moving cameras), or a window",
        choices=("sequence", "window", "frame"),
    )
    window: int = setting(27, "frames a transform is shared by with align=window", low=1)
    scale: str = setting(
        "sequence", "one scale a transform, or each frame of each view to unit size", choices=("sequence", "frame")
    )
    direction: str = setting(
        "symmetric", "mean of both directions, or a to b as in the paper", choices=("symmetric", "forward")
    )
    against: str = setting("pairs", "all pairs of views, or every view against their mean", choices=("pairs", "mean"))
    confidence: bool = setting(True, "weigh joints by the product of both scores, in the fit and in the loss")
    robust: float = setting(0.0, "residual above which a joint is down-weighted, in screen units; 0: off", low=0.0)
    rigid: bool = setting(False, "no scale in the transform; for models that speak meters")
    detach_transform: bool = setting(False, "no gradient through the fitted transform")


@dataclass(frozen=True)
class LossConfig:
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
class TriangulateConfig:
    """How two uncalibrated views of a take become 3D."""

    height_m: float = setting(
        0.0, "the athlete's height in meters; 0 leaves the result in screen units", low=0.0, high=3.0
    )
    same_athlete: bool = setting(
        True, "all takes show one athlete by the same phones: bones and focal lengths are found from all of them"
    )
    focal: float = setting(0.0, "focal length in pixels where it is known; 0 lets it be estimated", low=0.0)
    moving_s: float = setting(0.0, "seconds over which hand-held cameras stand still; 0: on tripods", low=0.0)
    sync_sigma_s: float = setting(0.03, "standard deviation of the sync error in seconds", low=0.0, high=0.2)
    pixel_noise: float = setting(0.007, "error of a sure joint as a share of the body's size", low=0.001, high=0.1)


@dataclass(frozen=True)
class PhonesConfig:
    """What the method `phones` learns from: pseudo-labels, the same poses in virtual cameras, and rehearsal."""

    steps_per_epoch: int = setting(7, "training steps in an epoch; the learning rate falls to 0 over all epochs", low=1)
    batch: int = setting(64, "clips with pseudo-labels per step", low=1)
    virtual: int = setting(32, "clips per step in virtual cameras, of turned takes and of rehearsal each", low=1)
    frames: int = setting(27, "frames per clip", low=2)
    turned: float = setting(0.5, "weight of the triangulated takes rendered in virtual cameras", low=0.0)
    rehearsal: float = setting(0.5, "weight of rehearsal: generic clips with the unadapted lifter's answers", low=0.0)
    consistency: float = setting(0.0, "weight of the paper's consistency loss on the takes' clips", low=0.0)
    swap: float = setting(0.7, "share of clips that get another clip's 2D errors", low=0.0, high=1.0)
    scale: float = setting(0.5, "weight of the scale-free error, paper equation 5", low=0.0)
    velocity: float = setting(20 / 27, "weight of the velocity error, paper equation 5 (20 of 27 frames)", low=0.0)
    sigma_m: float = setting(0.05, "standard deviation in meters at which a triangulated joint weighs half", low=0.001)


@dataclass(frozen=True)
class FinetuneConfig:
    """How a lifter is adapted to pairs of views."""

    method: str = setting(
        "phones",
        "phones: learn from the triangulated takes; paper: minimize the losses of [finetune.loss]",
        choices=("phones", "paper"),
    )
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    weights: str = setting("twoview-small", "lifter to start from: a name, or a model or checkpoint file")
    epochs: int = setting(
        30,
        "epochs; one is a pass over the clips with method paper, phones.steps_per_epoch steps with method phones",
        low=1,
    )
    batch: int = setting(6, "clips per step, each with all its views; authors' code; method paper alone", low=1)
    lr: float = setting(2e-4, "Adam's learning rate, paper section 4.2", low=0.0)
    seed: int = setting(42, "seed of clip order, flips and noise, authors' code", low=0)
    device: str = setting("auto", "auto, cpu, cuda")
    precision: str = setting(
        "auto",
        "precision of matrix products; auto: bf16 for the lifter tcn on hardware that multiplies in bf16, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    stride: float = setting(0.5, "step between two clips as a share of the clip's length", low=0.01, high=1.0)
    held_out: float = setting(
        0.2, "share of takes (of clips, where there is one take) kept for validation", low=0.0, high=0.9
    )
    flip: bool = setting(True, "mirror all views of half of the clips; method paper alone")
    clip_length: int = setting(0, "frames of a clip; 0: the longest that the lifter takes", low=0)
    schedule: str = setting(
        "auto",
        "learning rate: constant (paper), linear to 0 (phones), or exponential by lr_decay; auto: as the method",
        choices=("auto", "constant", "linear", "exponential"),
    )
    lr_decay: float = setting(0.99, "factor an epoch with schedule=exponential (MotionBERT)", low=0.0, high=1.0)
    weight_decay: float = setting(0.0, "AdamW's weight decay; 0 is Adam, as in the paper", low=0.0)
    clip_norm: float = setting(1.0, "largest norm of the gradient; 0: any", low=0.0)
    checkpointing: str = setting(
        "all",
        "activation checkpointing: keep all activations, or only those at block boundaries (less memory, more time)",
        choices=("all", "blocks"),
    )
    devices: int = setting(1, "processes or GPUs on each machine", low=1)
    nodes: int = setting(1, "machines", low=1)
    keep: str = setting(
        "best", "epoch that becomes the model: the best by the criterion, or the last", choices=("best", "last")
    )
    patience: int = setting(0, "epochs without a better one after which a run stops; 0: none", low=0)
    tensorboard: bool = setting(False, "also write TensorBoard's curves; needs the package tensorboard")
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        changed = [
            f.name for f in fields(self) if f.name in IGNORED[self.method] and getattr(self, f.name) != default(f)
        ]
        refuse_ignored(self.method, changed)


# Method of fine-tuning -> settings of [finetune] that it does not read, and what to set instead.
IGNORED = {
    "phones": {
        "batch": "set finetune.phones.batch",
        "flip": "this method always mirrors half of the clips",
        "loss": "the weights are in [finetune.phones]; or --set finetune.method=paper",
    },
    "paper": {"phones": "--set finetune.method=phones"},
}


def refuse_ignored(method: str, names: Iterable[str]) -> None:
    """Raise ConfigError if one of these settings of [finetune] has no effect with the method."""
    for name in names:
        if name in IGNORED[method]:
            raise ConfigError(f"finetune.{name} has no effect with method {method}", hint=IGNORED[method][name])


def default(entry: dataclasses.Field[Any]) -> Any:
    """The default of a field."""
    return entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()


@dataclass(frozen=True)
class PretrainConfig:
    """How a lifter is trained from motion capture through virtual cameras."""

    lifter: str = setting("tcn", "name in the lifter table, or package.module:Class")
    lifter_settings: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "settings of the lifter's class; what is left out keeps its default"}
    )
    data: tuple[str, ...] = setting((), "prepared motion capture files to train on")
    validation: tuple[str, ...] = setting((), "prepared files of other people to measure on; never to choose by")
    seed: int = setting(0, "seed of weights, cameras, noise and order", low=0)
    steps: int = setting(12_000, "training steps; the learning rate has fallen to 0 at the last", low=1)
    frames: int = setting(4096, "frames a step, split into clips of one length", low=1)
    optimizer: str = setting(
        "muon", "muon for the hidden matrices and adamw for the rest, or adamw", choices=("muon", "adamw")
    )
    lr: float = setting(5e-3, "highest learning rate, reached after the warm-up", low=0.0)
    lr_rest: float = setting(1e-3, "the same for what Muon leaves to AdamW", low=0.0)
    warmup: int = setting(300, "steps over which the learning rate rises", low=1)
    weight_decay: float = setting(0.01, "weight decay of both optimizers", low=0.0)
    scale: float = setting(0.5, "weight of the scale-free error, paper equation 5", low=0.0)
    velocity: float = setting(0.75, "weight of the velocity error, paper equation 5 (20 of 27 frames)", low=0.0)
    rate: float = setting(30.0, "frames a second that the lifter works at", low=1.0)
    converted: float = setting(0.5, "share of clips whose joints are a COCO detector's, converted", low=0.0, high=1.0)
    noise: tuple[str, ...] = setting(
        (), "JSON files of detectors' measured errors, used in turn with the built-in ones"
    )
    noise_from: int = setting(0, "step from which the measured errors join in", low=0)
    average: float = setting(0.999, "decay of the averaged weights that are kept", low=0.0, high=1.0)
    precision: str = setting("bf16", "bf16 runs the network's products in 16 bits", choices=("fp32", "bf16"))
    device: str = setting("auto", "auto, cpu or cuda; clips are drawn and filmed there too")
    save_every: int = setting(200, "steps between two saves of the run's state", low=1)
    validate_every: int = setting(1000, "steps between two validations", low=1)


@dataclass(frozen=True)
class InferConfig:
    """How one view becomes 3D."""

    flip: bool = setting(True, "average with the prediction of the mirrored input")
    height_m: float = setting(
        0.0, "the athlete's height in meters; 0 leaves the result in screen units", low=0.0, high=3.0
    )
    focal: float = setting(0.0, "focal length in pixels where it is known; 0: 0.8 of the long side", low=0.0)
    max_gap_s: float = setting(0.1, "longest time without a sight of a joint that is bridged", low=0.0)
    precision: str = setting("fp32", "numbers of the network's products", choices=("fp32", "bf16", "fp16"))
    compile: bool = setting(False, "compile the network first: minutes that long recordings win back")
    device: str = setting("auto", "auto, cpu or cuda")


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

SECTIONS: dict[str, type] = {
    "sync": SyncConfig,
    "detect": DetectConfig,
    "finetune": FinetuneConfig,
    "pretrain": PretrainConfig,
    "infer": InferConfig,
    "triangulate": TriangulateConfig,
}


def resolve(
    kind: type[T],
    *,
    file: Path | str | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
) -> T:
    """A config of type `kind` from defaults, a TOML or resolved-JSON file, flags and `a.b=value` strings.

    flags  field name (dots for nested ones) -> value; None means "not given"
    Raises ConfigError for anything unknown or impossible.
    """
    section = next(name for name, known in SECTIONS.items() if known is kind)
    values: dict[str, Any] = {}
    if file is not None:
        content = _read(Path(file))
        unknown = [key for key in content if key not in SECTIONS]
        if unknown:
            raise ConfigError(f"{file}: unknown section [{unknown[0]}]; {_nearest(unknown[0], SECTIONS)}")
        _merge(values, content.get(section, {}))
    resolved = set(values) if Path(file or "").suffix == ".json" else set()  # such a file names every setting
    for key, value in (flags or {}).items():
        if value is not None:
            _put(values, key, value)
    for text in sets:
        key, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected name=value, for instance --set finetune.epochs=10")
        key = key.strip()
        if key.split(".")[0] in SECTIONS:
            first, _, key = key.partition(".")
            if first != section:
                raise ConfigError(f"--set {text}: this command reads [{section}], not [{first}]")
        _put(values, key, _parse(raw.strip()))
    config = build(kind, values, where=str(file or "settings"), prefix=section)
    if isinstance(config, FinetuneConfig):
        refuse_ignored(config.method, values.keys() - resolved)
    return config


def build(kind: type[T], values: Mapping[str, Any], *, where: str = "settings", prefix: str = "") -> T:
    """A config from a plain mapping (nested ones for nested configs), every value checked."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if key in RENAMED:
            raise ConfigError(f"{where}: {key} is now {RENAMED[key]}")
        if name not in known:
            raise ConfigError(f"{where}: unknown key {key}; {_nearest(name, known)}")
        if is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {key} is a group of settings, got {value!r}")
            checked[name] = build(hints[name], value, where=where, prefix=key)
        else:
            checked[name] = _check(value, hints[name], known[name].metadata, f"{where}: {key}")
    return kind(**checked)


def to_plain(config: Any) -> dict[str, Any]:
    """The resolved config as a mapping that `--config` reads back, under its section's name."""
    section = next(name for name, known in SECTIONS.items() if known is type(config))
    return {section: dataclasses.asdict(config)}


def _read(path: Path) -> dict[str, Any]:
    shipped = _PRESETS / f"{path.name}.toml"
    if path == Path(path.name) and not path.exists() and shipped.exists():
        path = shipped
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid {path.suffix.lstrip('.') or 'TOML'}: {error}") from error
    return {k: v for k, v in content.items() if k not in ("format", "version", "made_by", "inputs", "settings")}


def _parse(raw: str) -> Any:
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        return raw  # a bare word is a string


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key}: {group} is not a group of settings")
    values[last] = value


def _check(value: Any, hint: Any, rules: Mapping[str, Any], where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    plain = tuple(typing.get_origin(option) or option for option in options)
    if isinstance(value, list) and tuple in plain:
        value = tuple(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join(getattr(option, "__name__", str(option)) for option in plain)
        raise ConfigError(f"{where} should be {names}, got {value!r}")
    low, high, choices = rules.get("low"), rules.get("high"), rules.get("choices")
    if choices is not None and value in RENAMED:
        raise ConfigError(f"{where}: {value} is now {RENAMED[value]}")
    if choices is not None and value not in choices:
        raise ConfigError(f"{where} should be one of {', '.join(map(str, choices))}, got {value!r}")
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        bounds = " and ".join(f"{word} {b:g}" for word, b in (("at least", low), ("at most", high)) if b is not None)
        raise ConfigError(f"{where} should be {bounds}, got {value!r}")
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names))}"
