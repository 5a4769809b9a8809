import pytest

from fusion.codec import Profile
from fusion.codec.synthetic import synthetic_profile


@pytest.fixture(scope="session")
def profile() -> Profile:
    return synthetic_profile()


@pytest.fixture(scope="session")
def small_profile() -> Profile:
    return synthetic_profile(image_width=96, image_height=64, channels=(3, 4, 5), clip=7)
