"""What the device detected as the benchmarks' own result files: COCO, KITTI and nuScenes."""
