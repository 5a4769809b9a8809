"""What every command does before it does anything: threads that wait sleep, unless somebody wants them otherwise."""

import os
import subprocess
import sys

import pytest

ASK = "import os; from fusion.console import guarded; guarded('x', lambda: print(os.environ['OMP_WAIT_POLICY']))"


@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmps_threads_sleep_while_they_wait(given: str | None, used: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    told = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == used


@pytest.mark.parametrize("program", ["edge_node.cli", "cloud_node.cli", "replay.cli", "fusion.cli"])
def test_no_command_brings_torch_before_that(program: str) -> None:
    """Its threads read the policy once, when it is imported."""
    look = f"import sys, {program}; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
