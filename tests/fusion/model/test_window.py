"""Reading a map inside a box."""

import torch

from fusion.model.window import box_window, read_windows


def test_a_constant_map_reads_as_constant() -> None:
    tokens = torch.full((1, 6 * 8, 3), 2.0)
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.01, 0.01]]])
    read = read_windows(tokens, box_window(boxes, 6, 8, 2))
    assert read.shape == (1, 2, 12)
    torch.testing.assert_close(read, torch.full_like(read, 2.0), atol=0.1, rtol=0)


def test_bins_are_rows_then_columns() -> None:
    rows, columns = 8, 8
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    tokens = torch.stack([x, y], -1).reshape(1, 64, 2)
    read = read_windows(tokens, box_window(torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]), rows, columns, 2)).view(2, 2, 2)
    torch.testing.assert_close(read[:, :, 0], torch.tensor([[2.5, 4.5], [2.5, 4.5]]))
    torch.testing.assert_close(read[:, :, 1], torch.tensor([[2.5, 2.5], [4.5, 4.5]]))


def test_outside_the_map_is_nothing() -> None:
    read = read_windows(torch.ones(1, 16, 1), box_window(torch.tensor([[[-2.0, 0.5, 0.2, 0.2]]]), 4, 4, 2))
    assert float(read.abs().max()) == 0
