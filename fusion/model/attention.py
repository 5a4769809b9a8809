"""One fusion layer: queries talk among themselves, read every sensor, and think."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.encoders.attention import Attention, FeedForward


class FusionLayer(nn.Module):
    """Pre-LayerNorm self-attention, with a relation bias if any, cross-attention to all tokens, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.forward_part = FeedForward(width, hidden, dropout)

    def forward(
        self, x: Tensor, position: Tensor, relation: Tensor | None, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """`x`, `position` (B, Q, D); `relation` (B, heads, Q, Q) added to self-attention, None for nothing; `keys`,
        `values` (B, S, D); `mask` (B, 1, 1, S) bool, True where a token is there, None when all are → (B, Q, D).
        """
        normal = self.self_norm(x)
        placed = normal + position
        x = x + self.dropout(self.self_attention(placed, placed, normal, relation))
        x = x + self.dropout(self.cross_attention(self.cross_norm(x) + position, keys, values, mask))
        result: Tensor = x + self.forward_part(x)
        return result


def standing(place: Tensor, class_scores: Tensor) -> Tensor:
    """How many items of its class stand further left, further right, nearer and farther than each item: (B, Q, 4).

    Soft counts, each other item weighted by its score for the class. "The left drum" is the drum with none to its
    left. `place` (B, Q, 3) metres, `class_scores` (B, Q, C), zeros where there is no item.
    """
    flat = place[..., :2]
    distance = (flat * flat).sum(-1).clamp(min=0.01).sqrt()
    side = flat[..., 1] / distance  # (B, Q), larger is further left
    own = class_scores / class_scores.sum(-1, keepdim=True).clamp(min=1e-3)
    alike = own @ class_scores.transpose(1, 2)  # (B, Q, Q): row's class, column's score for it
    alike = alike * (1 - torch.eye(place.shape[1], device=place.device))
    left = torch.sigmoid(60 * (side[:, None, :] - side[:, :, None]) - 1)
    right = torch.sigmoid(60 * (side[:, :, None] - side[:, None, :]) - 1)
    nearer = torch.sigmoid(4 * (distance[:, :, None] - distance[:, None, :]) - 1)
    farther = torch.sigmoid(4 * (distance[:, None, :] - distance[:, :, None]) - 1)
    return torch.stack([(alike * order).sum(-1) for order in (left, right, nearer, farther)], -1)


class RelationBias(nn.Module):
    """How two items stand to each other, as a number an attention head: who is further left, who is nearer, whether
    both are of the same class. This is what "the left drum" is about.
    """

    def __init__(self, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.network = nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, heads * layers))

    def forward(self, place: Tensor, class_scores: Tensor, valid: Tensor) -> list[Tensor]:
        """`place` (B, Q, 3) metres, `class_scores` (B, Q, C), `valid` (B, Q) float → a (B, heads, Q, Q) a layer."""
        flat = place[..., :2]
        distance = (flat * flat).sum(-1).clamp(min=0.01).sqrt()  # (B, Q)
        side = flat[..., 1] / distance
        aside = side[:, None, :] - side[:, :, None]
        beyond = distance[:, None, :] - distance[:, :, None]
        gap = flat[:, None, :, :] - flat[:, :, None, :]
        apart = (gap * gap).sum(-1)
        same = class_scores @ class_scores.transpose(1, 2)
        there = valid[:, None, :].expand_as(same)
        both = valid[:, :, None] * valid[:, None, :]
        features = torch.stack(
            [aside, torch.tanh(8 * aside), beyond / 10, torch.tanh(beyond), same, there, both, 1 / (1 + apart)], -1
        )
        bias = self.network(features).permute(0, 3, 1, 2)  # (B, heads * layers, Q, Q)
        return list(bias.split(self.heads, 1))
