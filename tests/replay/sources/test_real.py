"""Real recordings of each family as jobs: found, named, read in part."""

from pathlib import Path

import pytest

from fusion.task import Task
from replay.sources.jobs import jobs_of, open_job
from replay.sources.options import Moment, SourceOptions

SHARED = Path(__file__).parents[3] / "../shared/data"


@pytest.mark.parametrize(
    ("place", "task_name", "options"),
    [
        ("kitti_raw/2011_09_26", "kitti", SourceOptions()),
        ("nuscenes_keyframe", "nuscenes", SourceOptions()),
        ("mcap_ouster/*.mcap", "kitti", SourceOptions(mapping=("velodyne=/os1_cloud_node/points",))),
        ("ouster_pcap/**/*.pcap", "kitti", SourceOptions(mapping=("velodyne=ouster",))),
        ("video/car-detection.mp4", "pcb", SourceOptions(begin=Moment(1.0), end=Moment(1.5))),
        ("deeppcb", "pcb", SourceOptions(begin=Moment(2.0), end=Moment(3.0))),
        ("librispeech/i_tell_you.wav", "yard", SourceOptions(begin=Moment(0.5), end=Moment(1.0))),
    ],
)
def test_it_is_read(place, task_name, options):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    task, told = Task.load(task_name), []
    jobs = jobs_of([str(SHARED / place)], options=options, task=task, tell=told.append)
    assert jobs
    for job in jobs:
        reader = open_job(job, task)
        info = reader.info()
        assert info.sensors.keys() & task.sensors.keys()
        counted = sum(sensor.count for sensor in info.sensors.values())
        assert sum(1 for _ in reader.readings()) == counted > 0
        assert counted <= 60
