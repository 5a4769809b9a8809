"""What is spotted counts where there is sound, and nowhere else."""

import torch
from torch import Tensor, nn

from fusion.encoders.spotting import SpottingEncoder


class _Given(SpottingEncoder):
    """Hands out the frames and the mask it was given."""

    def __init__(self, frames: Tensor, valid: Tensor | None) -> None:
        super().__init__()
        self.given, self.valid = frames, valid
        torch.manual_seed(5)
        self.add_heads(frames.shape[2], 3, 2, frames.shape[1])
        self.norm = nn.Identity()

    def frames_of(self, pcm: Tensor, position: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.given, self.valid


FRAMES = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2))


def test_a_word_is_the_soft_maximum_over_frames() -> None:
    encoder = _Given(FRAMES, None)
    tokens, position, words, intent, spotted = encoder.hear(torch.zeros(1, 10))
    assert tokens.shape == position.shape == (1, 7, 8)
    torch.testing.assert_close(words, spotted.exp().mean(1).log())
    torch.testing.assert_close(intent, encoder.intent_head(FRAMES).exp().mean(1).log())
    torch.testing.assert_close(encoder(torch.zeros(1, 10))[2], words.sigmoid())
    heard = torch.cat([words.sigmoid(), intent.softmax(1)], 1)
    torch.testing.assert_close(tokens[:, 0], encoder.summary(heard))


def test_frames_without_sound_do_not_count() -> None:
    valid = torch.tensor([[False, False, True, True, True, True]])
    _, _, all_words, all_intents, _ = _Given(FRAMES[:, 2:], None).hear(torch.zeros(1, 10))
    _, _, words, intents, _ = _Given(FRAMES, valid).hear(torch.zeros(1, 10))
    torch.testing.assert_close(words, all_words)
    torch.testing.assert_close(intents, all_intents)
    assert not torch.allclose(words, _Given(FRAMES, None).hear(torch.zeros(1, 10))[2], atol=1e-3)
