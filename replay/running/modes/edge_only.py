"""The device alone: what it would send goes into an evidence file."""

from __future__ import annotations

from edge_node.spool import Spool
from fusion.recording.base import RecordingReader
from replay.running.evidence.layout import NAME
from replay.running.evidence.writing import write_evidence
from replay.running.folder import RunFolder
from replay.running.lane import remove_database
from replay.running.plan import Job


class ToEvidence:
    """A `Delivery` to the evidence file in the recording's folder. Everything goes on waiting in the spool."""

    def __init__(self, spool: Spool, reader: RecordingReader, job: Job, folder: RunFolder) -> None:
        self._spool, self._reader, self._job = spool, reader, job
        self._path = folder.job(job.name) / NAME
        remove_database(folder.ledger(job.name))
        self._path.unlink(missing_ok=True)

    def advance(self, now_ns: int) -> None:
        """Nothing is written before the end: until then a full spool may give items up."""

    def finish(self) -> None:
        """Write all that waits, and how everything else ended."""
        info = self._reader.info()
        write_evidence(
            self._spool.path, self._path, self._job, self._reader.truth(),
            continuous=info.continuous, damage=info.damage,
        )  # fmt: skip
