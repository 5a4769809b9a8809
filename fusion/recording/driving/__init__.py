"""Driving datasets: KITTI, SemanticKITTI and nuScenes."""
