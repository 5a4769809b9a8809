"""`fusion`: simulate, inspect and convert recordings; perceive what is in them; train, export and evaluate models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.console import guarded, whole_number


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("fusion", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fusion", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_simulate(commands)
    _add_recordings(commands)
    _add_perceive(commands)
    _add_train(commands)
    _add_pretrain(commands)
    _add_distill(commands)
    _add_prune(commands)
    _add_export(commands)
    _add_evaluate(commands)
    _add_calibrate(commands)
    return parser


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = commands.add_parser("simulate", help="make recordings or training scenes of the simulated yard")
    simulate.add_argument("world", choices=["yard"])
    simulate.add_argument("--seed", type=int, default=7)
    simulate.add_argument("--split", choices=["train", "val", "test"], default="test", help="whose appearance to use")
    simulate.add_argument("--seconds", type=float, default=30.0, help="length of a patrol")
    simulate.add_argument("--scenes", type=int, default=0, help="write so many independent scenes instead of a patrol")
    simulate.add_argument("--workers", type=int, default=1)
    simulate.add_argument("-o", "--out", type=Path, required=True, help="an .mcap for a patrol, a folder for scenes")
    simulate.set_defaults(run=_simulate)


def _simulate(arguments: argparse.Namespace) -> None:
    from fusion.simulation import Split, simulate_patrol
    from fusion.simulation.scene_set import write_scene_set

    split = Split(arguments.split)
    if arguments.scenes:
        write_scene_set(arguments.out, split, arguments.scenes, arguments.seed, workers=arguments.workers)
        return
    from fusion.recording.native.patrol import record_patrol

    samples = simulate_patrol(arguments.seed, arguments.seconds, split)
    record_patrol(samples, arguments.out, total=round(arguments.seconds * 10))


def _add_recordings(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("--task", help="a bundled task or a task file; image folders need one")
    source.add_argument("--split", help="which part of a data set: a scene, a sequence, a list of frames")
    source.add_argument("--salvage", action="store_true", help="of a damaged recording, the sound part")
    inspect = commands.add_parser(
        "inspect", parents=[source], help="what a recording holds: sensors, rates, gaps, calibration"
    )
    inspect.add_argument("recording", type=Path)
    inspect.add_argument("--picture", type=Path, help="write the LiDAR projected into a camera as a PNG")
    inspect.add_argument("--camera", help="the picture's camera; default: the one that looks most to the front")
    inspect.add_argument("--at", type=float, default=0.0, metavar="SECONDS", help="moment of the picture")
    inspect.set_defaults(run=_inspect)
    convert = commands.add_parser(
        "convert", parents=[source], help="bring a recording of another format into a native one"
    )
    convert.add_argument("source", type=Path, help="any recording; of a damaged MCAP what is sound is saved")
    convert.add_argument("-o", "--out", type=Path, required=True)
    convert.set_defaults(run=_convert)


def _inspect(arguments: argparse.Namespace) -> None:
    from fusion.recording.inspect import inspect_recording, projection_picture
    from fusion.task import Task

    task = Task.load(arguments.task) if arguments.task else None
    path, split, salvage = arguments.recording, arguments.split, arguments.salvage
    print(inspect_recording(path, task, split, salvage=salvage))
    if arguments.picture:
        told = projection_picture(
            path,
            arguments.picture,
            at_s=arguments.at,
            camera=arguments.camera,
            task=task,
            split=split,
            salvage=salvage,
        )
        print(f"wrote {arguments.picture}: {told}")


def _convert(arguments: argparse.Namespace) -> None:
    from fusion.recording.convert import convert
    from fusion.task import Task

    task = Task.load(arguments.task) if arguments.task else None
    print(convert(arguments.source, arguments.out, task, arguments.split, salvage=arguments.salvage))


def _add_perceive(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    perceive = commands.add_parser("perceive", help="pictures and numbers of what a fusion model sees in a recording")
    perceive.add_argument("recording", type=Path)
    perceive.add_argument("--task", help="a bundled task or a task file; default: the model's, or the recording's own")
    perceive.add_argument("--model", type=Path, metavar="FOLDER", help="fusion model; default: the task's bundled one")
    perceive.add_argument("--split", help="which part of a data set: a scene, a sequence, a list of frames")
    moment = perceive.add_mutually_exclusive_group()
    moment.add_argument("--at", type=float, metavar="SECONDS", help="the first moment from then on")
    moment.add_argument("--every", type=float, metavar="SECONDS", help="one moment in so many; 0 is all of them")
    perceive.add_argument("--limit", type=int, metavar="N", help="at most so many moments")
    perceive.add_argument(
        "--without", action="append", default=[], metavar="SENSOR", help="hold back camera, lidar, speech or one sensor"
    )
    perceive.add_argument("--score", type=float, default=0.3, help="objects score at least this; 0..1")
    perceive.add_argument("--truth", action="store_true", help="show and write what the recording tells of the truth")
    perceive.add_argument("--points", action="store_true", help="draw LiDAR points into the pictures, too")
    perceive.add_argument("--json", type=Path, metavar="FILE", help="write the objects, and the sensors they are from")
    perceive.add_argument("--threads", type=int, default=2)
    perceive.add_argument("-o", "--out", type=Path, required=True, help="a .png or .jpg for one moment, or a folder")
    perceive.set_defaults(run=_perceive)


def _perceive(arguments: argparse.Namespace) -> None:
    from fusion.viewing.command import perceive

    perceive(arguments)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser("train", help="train a model, or all of them, and bundle it with its card")
    train.add_argument(
        "model", choices=["detector", "bottleneck", "fusion", "novelty", "reviewer", "projector", "lora", "all"]
    )
    train.add_argument("--task", default="yard")
    train.add_argument("--data", type=Path, help="image folder or scene sets; see docs/models.md")
    train.add_argument("--out", type=Path, default=Path("runs"), help="where checkpoints and logs go")
    train.add_argument("--weights", type=Path, help="bundle folder; default: the package's own")
    train.add_argument("--epochs", type=whole_number, help="override the recipe's length")
    train.add_argument("--threads", type=int, default=2)
    train.add_argument(
        "--start", type=Path, help="go on from this bundle's model; a detector also from a .pt, or yolo11n.pt by name"
    )
    train.add_argument("--architecture", help="of the detector: yolov8n..x, yolo11n..x or yolo26n..x (default yolov8n)")
    _add_detector_recipe(train)
    train.add_argument(
        "--rate-weight", type=float, metavar="NATS", help="of a bottleneck: what a bit of evidence costs (3e-4)"
    )
    train.add_argument(
        "--only", action="append", metavar="PART", help="of the fusion model begun with: what learns (fuser.heads.box)"
    )
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument(
        "--reviewer", help="whom a projector (hf:NAME-OR-PATH) or LoRA (mini:TASK, hf:PATH?projector=FOLDER) is for"
    )
    _add_lora_recipe(train)
    train.add_argument("--size", default="small", help="of the fusion model: small, base or large")
    train.add_argument(
        "--device", default="cpu", help="where a detector or a driving task's fusion model learns, as torch names it"
    )
    train.add_argument("--network-weights", type=Path, help="a file of the camera backbone's weights to begin with")
    train.add_argument("--as-is", action="store_true", help="driving frames unchanged: to see a model learn by heart")
    train.add_argument("--held-out", type=Path, help="another recording, to measure a driving task's fusion model on")
    train.add_argument(
        "--precision", choices=["fp32", "bf16"], help="what the fusion model computes in; default: by device"
    )
    train.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        help="keep curves of the fusion model's training; default: for driving tasks, if TensorBoard is installed",
    )
    train.set_defaults(run=_train)


def _add_lora_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rank", type=int, help="of LoRA's matrices (default 2)")
    parser.add_argument("--alpha", type=int, help="LoRA's scale: what learns counts alpha / rank (default: 2 ranks)")
    parser.add_argument(
        "--target-modules", metavar="NAMES", help="LoRA's linear layers: q_proj,v_proj,projector, or all-linear"
    )
    parser.add_argument(
        "--items", type=Path, nargs=2, metavar=("TRAIN", "VALIDATION"), help="caches of review items to adapt with LoRA"
    )


def _add_detector_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-size", type=int, help="side of a detector's training pictures or tiles, in pixels")
    parser.add_argument("--batch", type=int, help="pictures a step of the detector, items of LoRA")
    parser.add_argument("--learning-rate", type=float, help="a detector's or LoRA's largest, of AdamW")
    parser.add_argument("--mosaic", type=float, help="share of a detector's pictures put together from four, 0..1")
    parser.add_argument("--scale", type=float, help="by up to what share a detector's pictures are resized, 0..1")
    parser.add_argument("--transpose", type=float, help="share of a detector's square pictures with axes swapped, 0..1")
    parser.add_argument("--seed", type=int, help="of a detector's, bottleneck's, projector's or LoRA's training")


def _train(arguments: argparse.Namespace) -> None:
    from fusion.training.commands import train

    train(arguments)


def _add_pretrain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pretrain = commands.add_parser("pretrain", help="teach a fusion model on scenes without reading their labels")
    pretrain.add_argument("--task", default="yard")
    pretrain.add_argument("--objective", choices=["masked", "contrastive"], default="masked")
    pretrain.add_argument("--out", type=Path, default=Path("runs"), help="where features, model and losses go")
    pretrain.add_argument("--weights", type=Path, help="bundle with the trunk; default: the package's own")
    pretrain.add_argument("--size", default="small", help="of the fusion model: small, base or large")
    pretrain.add_argument("--steps", type=int, default=3000)
    pretrain.add_argument("--batch", type=int, default=32)
    pretrain.add_argument("--seed", type=int, default=7)
    pretrain.add_argument("--threads", type=int, default=2)
    pretrain.add_argument("--device", default="cpu", help="as torch names it")
    pretrain.set_defaults(run=_pretrain)


def _pretrain(arguments: argparse.Namespace) -> None:
    from fusion.training.fusion_commands import pretrain

    pretrain(arguments)


def _add_detector_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="pcb")
    parser.add_argument("--data", type=Path, help="image folder or scene sets; see docs/models.md")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where checkpoints and tables go")
    parser.add_argument("--epochs", type=int, help="override the recipe's length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="as torch names it")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    _add_detector_recipe(parser)


def _add_distill(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "teach a small detector what a larger one knows, and tell in a table what that was worth"
    distill = commands.add_parser("distill", help=told, description=told)
    distill.add_argument(
        "--teacher",
        required=True,
        help="a checkpoint .pt, a folder of a run or a bundle, or an architecture (yolov8m) to be trained first",
    )
    distill.add_argument("--teacher-epochs", type=int, help="for how long; default: as long as the student")
    distill.add_argument("--architecture", help="of the student (default yolov8n); of the teacher's family")
    distill.add_argument("--start", type=Path, help="begin the student with a checkpoint .pt or a bundle")
    distill.add_argument("--compare", action="store_true", help="train the student alone by the same recipe, too")
    for name, default in (("maps", 0.0), ("classes", 2.0), ("boxes", 3.0)):
        distill.add_argument(f"--{name}-weight", type=float, help=f"of the teacher's {name} in the loss ({default})")
    _add_detector_run(distill)
    distill.set_defaults(run=_distill)


def _distill(arguments: argparse.Namespace) -> None:
    from fusion.training.detection.commands import distill

    distill(arguments)


def _add_prune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "take the channels that matter least out of a detector, and train it on"
    prune = commands.add_parser("prune", help=told, description=told)
    prune.add_argument("--start", type=Path, required=True, help="an ultralytics checkpoint .pt, or a run's folder")
    prune.add_argument("--share", type=float, default=0.3, help="of the channels inside blocks, 0..1 (0.3)")
    _add_detector_run(prune)
    prune.set_defaults(run=_prune)


def _prune(arguments: argparse.Namespace) -> None:
    from fusion.training.detection.commands import prune

    prune(arguments)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export", help="write a model's ONNX graphs, whole or in fewer bits, and hold them to it; merge a LoRA adapter"
    )
    export.add_argument("model", nargs="?", choices=["fusion", "detector", "lora"], default="fusion")
    export.add_argument(
        "--reviewer", help="the base that a LoRA adapter is merged into: mini:TASK, hf:PATH?projector=FOLDER"
    )
    export.add_argument("--adapter", type=Path, metavar="FOLDER", help="what fusion train lora left as adapter/")
    export.add_argument("--task", default="yard")
    export.add_argument(
        "--weights",
        type=Path,
        help="a bundle's folder, or a detector's checkpoint .pt; default: the package's own bundle",
    )
    export.add_argument("--out", type=Path, help="where the graphs go; default for fusion: beside the weights")
    export.add_argument(
        "--precision",
        choices=["f32", "int8", "bf16", "fp16"],
        default="f32",
        help="int8 and bf16: a variant in a folder of its own, refused when it tells less on validation data",
    )
    export.add_argument("--engine", choices=["tensorrt"], help="build for this engine, on the device itself (fp16)")
    export.add_argument(
        "--data",
        type=Path,
        help="fusion: folder of features-train and features-val (default runs/TASK); detector: its pictures",
    )
    export.add_argument("--made-by", help="the commands that made a checkpoint, for the card of its bundle")
    export.add_argument("--max-loss", type=float, default=0.005, help="what each gated figure may lose in a variant")
    export.add_argument("--threads", type=int, default=2)
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from fusion.training.commands import export

    export(arguments)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a bundled model, or anybody's boxes, against the truth")
    subjects = evaluate.add_subparsers(dest="model", required=True, metavar="WHAT")
    held_out = argparse.ArgumentParser(add_help=False)
    held_out.add_argument("--task", default="yard")
    held_out.add_argument("--data", type=Path, help="image folder or scene set; the yard is simulated when left out")
    held_out.add_argument("--split", default="test")
    held_out.add_argument("--scenes", type=int, default=2000, help="held-out yard scenes to simulate")
    held_out.add_argument("--weights", type=Path, help="bundle folder; default: the package's own")
    held_out.add_argument("--out", type=Path, default=Path("out/evaluate"))
    held_out.add_argument("--threads", type=int, default=2)
    for model in ("detector", "fusion", "reviewer"):
        told = f"the bundled {model} on held-out data"
        subject = subjects.add_parser(model, parents=[held_out], help=told, description=told)
        subject.set_defaults(run=_evaluate)
        if model == "fusion":
            subject.add_argument(
                "--disturbed", action="store_true", help="with late sensors and a turned camera too; minutes each"
            )
    told = "what evidence costs and is worth at each of its rates, on held-out data"
    rates = subjects.add_parser("evidence", parents=[held_out], help=told, description=told)
    rates.add_argument("--card", action="store_true", help="keep the figures in the bundle's card")
    rates.set_defaults(run=_evaluate)
    _add_evaluate_boxes(subjects)


def _add_evaluate_boxes(subjects: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "files of 3-D boxes by the KITTI object or the nuScenes detection metric; see docs/metrics.md"
    boxes = subjects.add_parser("boxes", help=told, description=told)
    boxes.add_argument("--format", choices=["kitti", "nuscenes"], required=True)
    boxes.add_argument(
        "--truth", type=Path, required=True, help="KITTI: folder of label files; nuScenes: EvalBoxes JSON"
    )
    boxes.add_argument("--detections", type=Path, required=True, help="the same with scores, or a nuScenes submission")
    boxes.add_argument("--out", type=Path, help="folder for metrics.json and metrics.md")
    boxes.add_argument("--frames", type=Path, help="KITTI: a file of the frames that count, one a line")
    boxes.add_argument(
        "--unfiltered", action="store_true", help="nuScenes: count boxes out of range and without points"
    )
    boxes.add_argument("--ego", type=Path, help='nuScenes: vehicle positions, JSON {"TOKEN": [x, y, z]}')
    boxes.add_argument(
        "--bike-racks", type=Path, help="nuScenes: bicycle racks, JSON as the truth; leave out what is in"
    )
    boxes.set_defaults(run=_evaluate_boxes)


def _evaluate(arguments: argparse.Namespace) -> None:
    from fusion.training.commands import evaluate

    evaluate(arguments)


def _evaluate_boxes(arguments: argparse.Namespace) -> None:
    from fusion.evaluation.boxes import evaluate_boxes

    evaluate_boxes(arguments)


def _add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "fit what makes a reviewer's probabilities mean what they say, and tell what it is worth on other items"
    calibrate = commands.add_parser("calibrate", help=told, description=told)
    calibrate.add_argument("model", choices=["reviewer"])
    calibrate.add_argument("name", help="hf:NAME-OR-PATH?task=TASK or openai:URL#MODEL?task=TASK")
    calibrate.add_argument(
        "--items", type=Path, required=True, metavar="FOLDER", help="a cache of items, as training and evaluation make"
    )
    calibrate.add_argument("--held-out", type=Path, metavar="FOLDER", help="others; default: every second scene")
    calibrate.add_argument("--out", type=Path, default=Path("calibration.json"))
    calibrate.add_argument("--threads", type=int, default=2)
    calibrate.set_defaults(run=_calibrate)


def _calibrate(arguments: argparse.Namespace) -> None:
    from fusion.training.commands import calibrate

    calibrate(arguments)


if __name__ == "__main__":
    sys.exit(main())
