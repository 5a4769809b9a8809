"""One short run that is exported in several ways."""

import pytest

from replay.cli import main


@pytest.fixture(scope="session")
def short_run(cut, declared_exporters, tmp_path_factory):
    """The folder of a run of the first second of the bundled patrol, with tables and no Rerun file; its recording."""
    folder = tmp_path_factory.mktemp("exported")
    recording = cut(folder / "patrol.mcap", 0, 1)
    out = folder / "out"
    assert main(["run", str(recording), "--out", str(out), "--no-scene", "--export", "parquet"]) == 0
    return out, recording
