"""nuscenes-devkit itself, where it can be imported (it needs an environment with numpy < 2)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from box_metrics import nuscenes_loops


def is_there() -> bool:
    """Whether the devkit is installed."""
    return find_spec("nuscenes") is not None


def samples(by_sample: nuscenes_loops.Samples) -> Any:
    """The devkit's own `EvalBoxes`."""
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox

    held = EvalBoxes()
    for token, boxes in by_sample.items():
        held.add_boxes(
            token,
            [
                DetectionBox(
                    token,
                    box.translation,
                    box.size,
                    box.rotation,
                    box.velocity,
                    box.ego_translation,
                    int(box.num_pts),
                    box.detection_name,
                    -1.0 if np.isnan(box.detection_score) else box.detection_score,
                    box.attribute_name,
                )
                for box in boxes
            ],
        )
    return held


def evaluate(truth: Any, predictions: Any) -> dict[str, Any]:
    """What `DetectionEval.evaluate` does, which itself asks for the data set; filters as `filter_eval_boxes`."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
    from nuscenes.eval.detection.constants import TP_METRICS
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    config = config_factory("detection_cvpr_2019")
    truth, predictions = _filtered(truth, config.class_range), _filtered(predictions, config.class_range)
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        data = {d: accumulate(truth, predictions, name, config.dist_fcn_callable, d) for d in config.dist_ths}
        for distance in config.dist_ths:
            metrics.add_label_ap(name, distance, calc_ap(data[distance], config.min_recall, config.min_precision))
        for error in TP_METRICS:
            measured = error not in nuscenes_loops.NOT_MEASURED.get(name, ())
            value = calc_tp(data[config.dist_th_tp], config.min_recall, error) if measured else np.nan
            metrics.add_label_tp(name, error, value)
    return dict(metrics.serialize())


def _filtered(boxes: Any, class_range: dict[str, float]) -> Any:
    kept = type(boxes)()
    for token in boxes.sample_tokens:
        near = [box for box in boxes[token] if box.ego_dist < class_range[box.detection_name]]
        kept.add_boxes(token, [box for box in near if box.num_pts != 0])
    return kept
