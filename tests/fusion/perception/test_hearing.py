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


def test_the_same_words_again_stay_young() -> None:
    hearing = Hearing()
    hearing.listen(_heard(0, 1), SECOND)
    hearing.listen(_heard(0, 1), 2 * SECOND)
    assert _words(hearing, 2 * SECOND + KEPT_NS) == {0, 1}


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
