"""The YOLO families a detector may be of, and what a network must have to be one.

Three families end in the same head over three maps of the neck (strides 8, 16 and 32): YOLOv8, YOLO11 and YOLO26. They
differ in blocks and in how a box is told (YOLOv8 and YOLO11 by a distribution over 16 distances a side, YOLO26 by the
distance), and YOLO26 has a second, one-to-one head. What is exported is the one-to-many head with suppression on the
device, so that the output is the same for all. Everything is read from the network; no layer's number is known here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from fusion.errors import ConfigError, ModelError

FAMILIES = ("yolov8", "yolo11", "yolo26")
SCALES = "nsmlx"
NAMES = tuple(f"{family}{scale}" for family in FAMILIES for scale in SCALES)
DEFAULT = "yolov8n"
STRIDES = (8, 16, 32)

Network: TypeAlias = Any
"""An ultralytics `DetectionModel`; the library has no types."""


def definition(name: str) -> str:
    """The file that ultralytics builds `name` from. Raises `ConfigError` for an unknown architecture."""
    if name not in NAMES:
        families = ", ".join(f"{family}n..{family}x" for family in FAMILIES)
        raise ConfigError(f"no detector is called {name!r}; use one of {families} (sizes {', '.join(SCALES)})")
    return f"{name}.yaml"


def new_network(name: str, classes: int) -> Network:
    """A network with random weights, in evaluation mode, without a head that is not exported."""
    from ultralytics.nn.tasks import DetectionModel

    return one_headed(DetectionModel(definition(name), nc=classes, verbose=False).float().eval())


def one_headed(network: Network) -> Network:
    """The same network without the one-to-one head that YOLO26 has beside the one that is exported."""
    head = network.model[-1]
    if getattr(head, "one2one_cv2", None) is not None:
        head.end2end = False
        for part in ("one2one_cv2", "one2one_cv3"):
            setattr(head, part, None)
    return network


def check_detector(network: Network, where: Path) -> None:
    """Raise `ModelError` unless a trunk can be made of `network`: a plain detection head over three maps."""
    from ultralytics.nn.modules.head import Detect

    layers = getattr(network, "model", None)
    try:
        head: Any = None if layers is None else layers[-1]
    except (TypeError, IndexError, KeyError):
        raise ModelError(f"{where}: its network is no row of layers; give a detection checkpoint") from None
    if type(head) is not Detect:
        raise ModelError(
            f"{where}: its head is a {type(head).__name__}, not that of a plain detector; give a detection checkpoint "
            f"of {', '.join(FAMILIES)}"
        )
    if head.cv2 is None:
        raise ModelError(f"{where}: its one-to-many head was removed when it was fused; give it as it was trained")
    strides = tuple(int(stride) for stride in head.stride)
    if strides != STRIDES:
        raise ModelError(f"{where}: its maps have strides {strides}; a trunk has {STRIDES}")
    if (colours := dict(getattr(network, "yaml", None) or {}).get("channels", 3)) != 3:
        raise ModelError(f"{where}: takes {colours} colours; a trunk takes 3")
    _check_names(getattr(network, "names", None), int(head.nc), where)


def _check_names(names: Any, classes: int, where: Path) -> None:
    """Raise `ModelError` unless every one of so many classes has a name, by its number from 0."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or set(names) != set(range(len(names))):
        raise ModelError(f"{where}: its class names are not numbered from 0; set model.names to {{0: name, 1: name}}")
    if len(names) != classes:
        raise ModelError(
            f"{where}: names {len(names)} classes, but its head tells {classes}; train it on the data again"
        )


def class_names(network: Network) -> tuple[str, ...]:
    """The names of a network's classes in their order."""
    return tuple(str(network.names[i]) for i in range(len(network.names)))


def named(network: Network) -> str:
    """The architecture's name as far as the network tells it: `yolov8n`, or the stem of a file of the user's own."""
    return Path(str(network.yaml.get("yaml_file", "network"))).stem


def same_family(one: Network, other: Network) -> bool:
    """Whether two networks are of one family: the same layers in the same order, boxes told the same way.

    Widths and how often a block repeats inside do not matter.
    """
    return _plan(one) == _plan(other)


def _plan(network: Network) -> tuple[object, ...]:
    layers = [(type(layer).__name__, str(layer.f)) for layer in network.model]
    head = network.model[-1]
    return (*layers, int(head.reg_max), bool(head.legacy))


def parameters(network: Network) -> int:
    """How many numbers a network has learnt."""
    return sum(parameter.numel() for parameter in network.parameters())
