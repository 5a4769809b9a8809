"""An utterance's tail does not replace it; a new one does; four seconds later it is over."""

import numpy as np

from fusion.perception.hearing import EVERY_NS, KEPT_NS, Hearing

SECOND = 1_000_000_000


def _heard(*words: int) -> dict[str, np.ndarray]:
    probabilities = np.full((1, 6), 0.1, np.float32)
    probabilities[0, list(words)] = 0.9
    return {"words": probabilities, "tokens": np.zeros((1, 2, 4), np.float32)}


def _words(hearing: Hearing, time_ns: int) -> set[int]:
    utterance = hearing.current(time_ns)
    return set() if utterance is None else set(utterance.words)


def test_the_whole_utterance_outlives_its_tail() -> None:
    hearing = Hearing()
    hearing.listen(_heard(0), SECOND)
    hearing.listen(_heard(0, 1, 2), 2 * SECOND)
    hearing.listen(_heard(2), 3 * SECOND)
    hearing.listen(_heard(), 4 * SECOND)
    assert _words(hearing, 4 * SECOND) == {0, 1, 2}
    assert _words(hearing, 2 * SECOND + KEPT_NS) == {0, 1, 2}
    assert _words(hearing, 2 * SECOND + KEPT_NS + 1) == set()


def test_a_new_word_is_a_new_utterance() -> None:
    hearing = Hearing()
    hearing.listen(_heard(0, 1, 2), SECOND)
    hearing.listen(_heard(5), 2 * SECOND)
    assert _words(hearing, 2 * SECOND) == {5}


def test_a_window_that_slides_does_not_keep_an_utterance_young() -> None:
    hearing = Hearing()
    hearing.listen(_heard(0, 1), SECOND)
    hearing.listen(_heard(0, 1), SECOND + EVERY_NS)
    assert _words(hearing, SECOND + KEPT_NS) == {0, 1}
    assert _words(hearing, SECOND + KEPT_NS + 1) == set()


def test_the_same_words_said_again_are_a_new_utterance() -> None:
    hearing = Hearing()
    times = [SECOND + n * EVERY_NS for n in range(4)]
    for time_ns, words in zip(times, [(0, 1), (1,), (0, 1), (0, 1)], strict=True):
        hearing.listen(_heard(*words), time_ns)
    assert _words(hearing, times[2] + KEPT_NS) == {0, 1}
    assert _words(hearing, times[2] + KEPT_NS + 1) == set()


def test_half_a_command_is_not_taken_for_one() -> None:
    hearing = Hearing()
    said = [(), (3,), (3, 0), (3, 0, 1), (3, 0, 1, 2), (3, 0, 1, 2), (0, 1, 2)]
    times = [SECOND + n * EVERY_NS for n in range(len(said))]
    seen = []
    for time_ns, words in zip(times, said, strict=True):
        hearing.listen(_heard(*words), time_ns)
        seen.append(_words(hearing, time_ns))
    assert seen == [set(), set(), set(), set(), set(), {0, 1, 2, 3}, {0, 1, 2, 3}]
    assert _words(hearing, times[4] + KEPT_NS) == {0, 1, 2, 3}


def test_the_fuller_window_is_kept_when_the_next_has_lost_a_word() -> None:
    hearing = Hearing()
    for n, words in enumerate([(), (0, 1, 2), (1, 2)]):
        hearing.listen(_heard(*words), SECOND + n * EVERY_NS)
    assert _words(hearing, SECOND + 2 * EVERY_NS) == {0, 1, 2}


def test_listening_is_not_due_all_the_time() -> None:
    hearing = Hearing()
    assert hearing.due(SECOND)
    hearing.listen(_heard(), SECOND)
    assert not hearing.due(SECOND + EVERY_NS - 1)
    assert hearing.due(SECOND + EVERY_NS)
    assert hearing.due(0)


def test_noise_alone_is_no_utterance() -> None:
    hearing = Hearing()
    hearing.listen(_heard(), SECOND)
    assert hearing.current(SECOND) is None
