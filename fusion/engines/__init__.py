"""Inference engines behind one small interface; the libraries are imported when an engine is loaded."""

from fusion.engines.base import Array, Engine, EngineClass, Precision, Tensor, engines_here, load_engine

__all__ = ["Array", "Engine", "EngineClass", "Precision", "Tensor", "engines_here", "load_engine"]
