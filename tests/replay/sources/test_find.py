"""Files, folders that are recordings, folders of recordings, patterns, and the same one twice."""

import os
import shutil

import cv2
import numpy as np
import pytest

from fusion.errors import InputError, RecordingError
from replay.cli import main
from replay.sources.find import find_recordings
from replay.sources.jobs import jobs_of


def pictures(folder):
    for part in ("images/test", "images/train", "labels/test", "labels/train"):
        (folder / part).mkdir(parents=True)
    for split in ("test", "train"):
        cv2.imwrite(str(folder / f"images/{split}/1.png"), np.zeros((8, 8, 3), np.uint8))
    return folder


@pytest.fixture
def tree(tmp_path, made):
    """Two drives with a recording each, a folder of pictures, and files that are nobody's."""
    root = tmp_path / "tree"
    made(root / "b/drive/run.mcap", 1)
    made(root / "a/drive/run.mcap", 2)
    made(root / "a/.hidden/run.mcap", 3)
    pictures(root / "boards")
    (root / "notes.txt").write_text("nothing")
    (root / "a/readme.md").write_text("nothing")
    return root


def relative(root, found):
    return [os.path.relpath(one, root) for one in found]


def test_a_folder_of_recordings_is_gone_through_and_what_is_none_is_told(tree, told):
    found = find_recordings([str(tree)], told.append)
    assert relative(tree, found) == ["a/drive/run.mcap", "b/drive/run.mcap", "boards"]
    assert told == [f"{tree}: 2 files that are no recordings passed over, the first is {tree}/a/readme.md"]


def test_a_folder_that_is_a_recording_is_one(tree, told):
    assert find_recordings([str(tree / "boards")], told.append) == [str(tree / "boards")]


def test_patterns(tree, told):
    drives = ["a/drive/run.mcap", "b/drive/run.mcap"]
    assert relative(tree, find_recordings([f"{tree}/**/*.mcap"], told.append)) == drives
    assert told == []
    found = find_recordings([f"{tree}/**"], told.append)
    assert relative(tree, found) == [*drives, "boards"]
    assert len(told) == 1, "pictures in a folder of pictures are not passed over: they are read"
    assert relative(tree, find_recordings([f"{tree}/?/*"], told.append)) == ["a/drive/run.mcap", "b/drive/run.mcap"]


def test_a_file_with_a_pattern_s_marks_in_its_name_is_that_file(tmp_path, made, told):
    path = made(tmp_path / "run[1].mcap")
    assert find_recordings([str(path)], told.append) == [str(path)]


def test_the_same_recording_is_run_once(tree, told):
    link = tree / "link.mcap"
    link.symlink_to(tree / "a/drive/run.mcap")
    given = [str(tree / "a/drive/run.mcap"), str(link), f"{tree}/a/../a/drive/run.mcap"]
    assert find_recordings(given, told.append) == given[:1]
    assert len(told) == 2
    assert all(line.endswith("run.mcap, which is in the run already; run once") for line in told)


def test_so_is_the_same_content_but_not_another_of_the_same_size(tree, told):
    original = tree / "a/drive/run.mcap"
    shutil.copy(original, tree / "copy.mcap")
    content = bytearray(original.read_bytes())
    content[-20] ^= 1
    (tree / "same-size.mcap").write_bytes(content)
    found = find_recordings([str(original), str(tree / "copy.mcap"), str(tree / "same-size.mcap")], told.append)
    assert relative(tree, found) == ["a/drive/run.mcap", "same-size.mcap"]
    assert told == [f"{tree}/copy.mcap: holds the same as {original}; run once"]


def test_copies_of_folders_are_found_too(tree, told):
    shutil.copytree(tree / "boards", tree / "boards-2")
    found = find_recordings([str(tree / "boards"), str(tree / "boards-2")], told.append)
    assert relative(tree, found) == ["boards"]


def test_folders_that_lead_in_circles_end(tmp_path, made, told):
    made(tmp_path / "root/run.mcap")
    (tmp_path / "root/again").symlink_to(tmp_path / "root")
    assert len(find_recordings([str(tmp_path / "root")], told.append)) == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("missing.mcap", "missing.mcap: no such file or folder"),
        ("*.bag", r"\*.bag: nothing fits this pattern"),
        ("empty", "empty: no recording, and none in it; 1 file looked at"),
        ("emp*", r"emp\*: no recording fits this pattern; 1 file looked at"),
    ],
)
def test_a_source_without_recordings_is_one_line(tmp_path, told, given, match):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=match):
        find_recordings([str(tmp_path / given)], told.append)


def test_a_file_of_no_known_format_is_told_where_it_is_read(tmp_path):
    from fusion.task import Task
    from replay.sources.jobs import open_job

    (tmp_path / "notes.txt").write_text("nothing")
    (job,) = jobs_of([str(tmp_path / "notes.txt")])
    with pytest.raises(RecordingError, match="not a recording of a known format"):
        open_job(job, Task.load("yard"))


def test_pictures_are_read_in_their_test_split_unless_another_is_given(tree):
    assert [job.split for job in jobs_of([str(tree)])] == ["", "", "test"]
    assert [job.split for job in jobs_of([str(tree / "boards")], "train")] == ["train"]


def test_a_folder_without_recordings_does_not_end_a_pattern(tree, told):
    (tree / "c").mkdir()
    (tree / "c/log.txt").write_text("nothing")
    assert relative(tree, find_recordings([f"{tree}/[abc]"], told.append)) == ["a/drive/run.mcap", "b/drive/run.mcap"]
    assert any("c/log.txt" in line or "2 files" in line for line in told)


def test_a_name_that_is_not_utf_8_is_passed_over_and_told(tree, made, told, tmp_path, capsys):
    """Would fail if it ended the run of all the others as a defect."""
    strange = os.fsdecode(os.fsencode(tree) + b"/a/drive/caf\xe9.mcap")
    os.rename(made(tmp_path / "moved.mcap", 7), strange)  # noqa: PTH104 a name of bytes
    found = find_recordings([str(tree / "a")], told.append)
    assert relative(tree, found) == ["a/drive/run.mcap"]
    assert f"{tree}/a/drive/caf\\xe9.mcap: its name is not UTF-8; passed over; rename it" in told
    for words in ([strange], [strange, "--cloud-only"], [f"{tree}/a/drive/ca*"]):
        assert main(["run", *words, "--out", str(tmp_path / "out")]) == 3
        assert f"replay: {tree}/a/drive/caf\\xe9.mcap: its name is not UTF-8; rename it" in capsys.readouterr().err
