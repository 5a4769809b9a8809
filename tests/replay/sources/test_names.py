"""Names are short, fit a folder, differ, and do not hang on the order of what is given."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.sources.names import LONGEST, job_names


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["/data/yard.mcap"], ["yard"]),
        (["/d/a.mcap", "/d/b.mcap"], ["a", "b"]),
        (["/d/x/run.mcap", "/d/y/run.mcap"], ["x-run", "y-run"]),
        (["/d/x/deep/er/run.mcap", "/d/y/deep/er/run.mcap", "/d/z.mcap"], ["x-run", "y-run", "z"]),
        (["/d/1/a/run.mcap", "/d/1/b/run.mcap", "/d/2/a/run.mcap"], ["1-a-run", "1-b-run", "2-a-run"]),
        (["/d/run.mcap", "/d/run.bag"], ["run.mcap", "run.bag"]),
        (["s3://bucket/x/run.mcap", "/d/run.mcap"], ["x-run", "d-run"]),
        (["zip://in/a.mcap::s3://b/c.zip"], ["a"]),
        (["s3://b/a/run.mcap", "s3://b/c/run.mcap"], ["a-run", "c-run"]),
        (["/d/Über uns!.mcap"], ["ber-uns"]),
        (["/d/???.mcap"], ["recording"]),
    ],
)
def test_names(sources, names):
    assert [job_names(sources)[source] for source in sources] == names


PART = st.text("ab.- _é", min_size=1, max_size=4).filter(lambda part: part.strip(".") and "/" not in part)

PATH = st.lists(PART, min_size=1, max_size=4).map(lambda parts: "/nowhere/" + "/".join(parts))


@settings(max_examples=200, deadline=None)
@given(st.sets(PATH, max_size=8), st.randoms())
def test_they_differ_fit_and_do_not_hang_on_the_order(sources, random):
    sources = list({str(Path(source)) for source in sources})
    names = job_names(sources)
    assert names.keys() == set(sources)
    assert len({name.lower() for name in names.values()}) == len(sources)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) and name.strip(".") for name in names.values())
    random.shuffle(sources)
    assert job_names(sources) == names


def test_long_ones_are_cut_and_still_differ():
    sources = [f"/d/{'x' * 200}{end}.mcap" for end in "ab"]
    names = list(job_names(sources).values())
    assert len(set(names)) == 2
    assert all(len(name) <= LONGEST + 7 for name in names)
