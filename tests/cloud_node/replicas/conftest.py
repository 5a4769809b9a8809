"""Both places where replicas live: processes of this machine, and one local instance of Ray."""

import warnings
from importlib.util import find_spec

import pytest

from fusion.review.replicas.cluster import Cluster
from fusion.review.replicas.reviewer import ProcessReviewer, RayReviewer


@pytest.fixture(scope="session")
def needs_ray():
    if find_spec("ray") is None:
        missing = "NOT TESTED: replicas need Ray; run  pip install 'fusion-stack[scale]'"
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)


@pytest.fixture(scope="module")
def instance(needs_ray):
    """Ray, held open for the module so that it starts once."""
    cluster = Cluster.open("")
    yield cluster
    cluster.close()


@pytest.fixture(scope="module", params=["process", "ray"])
def replicas(request):
    """The class of reviewers whose replicas live there."""
    if request.param == "process":
        return ProcessReviewer
    request.getfixturevalue("instance")
    return RayReviewer
