"""Temporal ranking against a version that is written out."""

import numpy as np
import pytest
import torch

from psm_adapt.general.ranking import anchors_of, as_sequences, sequence_of, temporal_ranking


@pytest.mark.parametrize("is_squared", [False, True])
def test_it_is_the_sum_of_ten_hinges(is_squared: bool) -> None:
    codes = torch.randn(3, 12, 8, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for sequence in codes.numpy().astype(float):
        unit = sequence / np.linalg.norm(sequence, axis=1, keepdims=True)
        apart = [np.linalg.norm(one - unit[0]) ** (2 if is_squared else 1) for one in unit[1:]]
        total += sum(max(0, apart[n - 1] - apart[n] + 0.03) for n in range(1, 11))
    assert float(temporal_ranking(codes, is_squared)) == pytest.approx(total / 3, rel=1e-5)


def test_a_code_that_walks_away_has_no_loss() -> None:
    angle = torch.linspace(0, 2, 12)
    codes = torch.stack([angle.cos(), angle.sin()], 1)[None]
    assert float(temporal_ranking(codes)) == 0
    assert float(temporal_ranking(torch.cat([codes[:, :1], codes[:, 1:].flip(1)], 1))) > 1


def test_sequences_are_the_anchor_its_neighbour_and_ten_more() -> None:
    assert sequence_of(100, 4).tolist() == [100, 101, 105, 109, 113, 117, 121, 125, 129, 133, 137, 141]
    assert anchors_of(42, 4) == 1
    assert anchors_of(41, 4) == 0
    assert as_sequences(torch.zeros(24, 5)).shape == (2, 12, 5)
