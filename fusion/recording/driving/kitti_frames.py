"""The frames of a KITTI object folder: which files each has, and which camera took its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.errors import RecordingError
from fusion.geometry import CameraCalibration
from fusion.recording.driving.dataset import StoredReading
from fusion.recording.driving.kitti_calibration import CalibrationFolder, find_cameras
from fusion.recording.driving.kitti_files import CAMERAS, LEFT, LIDAR, PICTURES, nominal_ns, numbered_files
from fusion.types import Modality


class ObjectFrames:
    """The files of the frames asked for, and of all the folder's pictures what camera they are from.

    `listed` says where each frame that is asked for was named; None asks for all.
    """

    def __init__(self, folder: Path, listed: Mapping[int, str] | None) -> None:
        self._folder, self._listed = folder, listed
        self._scans = numbered_files(folder / LIDAR, ".bin")
        self._pictures = {name: numbered_files(folder / f"image_{n}", *PICTURES) for n, name in enumerate(CAMERAS)}
        self._labels = numbered_files(folder / "label_2", ".txt")
        self.calibrations = CalibrationFolder(folder / "calib")
        self._cameras = {
            name: find_cameras(name, number, self._pictures[name], self.calibrations)
            for number, name in enumerate(CAMERAS)
        }
        self._names = self._stems()
        wanted = self._names if listed is None else listed
        self._wanted = sorted(frame for frame in wanted if frame in self._names)

    def _stems(self) -> dict[int, str]:
        """What each frame with a scan or picture is called, such as 000123."""
        series = (self._scans, *self._pictures.values())
        return {frame: path.stem for files in series for frame, path in files.items()}

    def problems(self) -> list[str]:
        """What is wrong with the frames asked for, each thing once. Raises `RecordingError` where there are none."""
        if not self._names:
            raise RecordingError(f"{self._folder}: no velodyne/*.bin and no pictures image_2/* in it")
        missing = [place for frame, place in (self._listed or {}).items() if frame not in self._names]
        found = [f"{place}: there is no scan and no picture of this frame in {self._folder}" for place in missing]
        for frame in self._wanted:
            try:
                self.calibrations.of(self._names[frame])
            except RecordingError as error:
                found.append(str(error))
            found += [cameras.problems[frame] for cameras in self._cameras.values() if frame in cameras.problems]
        return list(dict.fromkeys(found))

    def stored(self) -> list[StoredReading]:
        """Scans and pictures of the frames asked for."""
        found = []
        for frame in self._wanted:
            time_ns = nominal_ns(frame)
            if frame in self._scans:
                found.append(StoredReading(time_ns, LIDAR, Modality.LIDAR, (self._scans[frame],)))
            for name, cameras in self._cameras.items():
                if frame in cameras.name_of_frame:
                    camera, file = cameras.name_of_frame[frame], self._pictures[name][frame]
                    found.append(StoredReading(time_ns, camera, Modality.CAMERA, (file,)))
        return found

    def labels(self) -> dict[int, Path]:
        """Label files of the frames asked for that have a calibration to place boxes by."""
        return {f: self._labels[f] for f in self._wanted if f in self._labels and self._calibrated(f)}

    def labelled_picture(self, frame: int) -> Path | None:
        """The left picture of a frame, which its labels are of; None for a frame without."""
        return self._pictures[LEFT].get(frame)

    def calibrated(self) -> dict[str, CameraCalibration]:
        """All cameras by name."""
        return {name: c for cameras in self._cameras.values() for name, c in cameras.calibrations.items()}

    def sources(self) -> dict[str, str]:
        """The folder of each sensor."""
        cameras = {
            name: f"image_{number}" for number, base in enumerate(CAMERAS) for name in self._cameras[base].calibrations
        }
        return {LIDAR: LIDAR} | cameras

    def calibration_files(self) -> list[Path]:
        """Those of the frames asked for."""
        paths = (self.calibrations.path(self._names[frame]) for frame in self._wanted)
        return [path for path in paths if path.is_file()]

    def _calibrated(self, frame: int) -> bool:
        try:
            self.calibrations.of(self._names[frame])
        except RecordingError:
            return False
        return True
