"""What the device thinks about one sample: the detector, the fused scene, and the evidence made of both."""

from fusion.perception.detector import DetectorResult, DetectorStage
from fusion.perception.evidence import crop_pixels, make_evidence

__all__ = ["DetectorResult", "DetectorStage", "crop_pixels", "make_evidence"]
