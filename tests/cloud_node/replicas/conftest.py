"""One local instance of Ray for the module, which the service's own way starts and ends."""

import warnings
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def needs_ray():
    if find_spec("ray") is None:
        missing = "NOT TESTED: replicas need Ray; run  pip install 'fusion-stack[scale]'"
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)
