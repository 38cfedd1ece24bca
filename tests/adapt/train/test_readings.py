"""Losses become numbers, and what is not finite becomes an error that names it."""

import math

import pytest
import torch
from torch import nn

from psm_adapt.train.readings import At, Reading, Readings, check_finite, in_one
from psm_stream.errors import TrainingError

AT = At(3, 41, 5e-5)


def test_terms_in_one_vector_and_back() -> None:
    terms = {"total": torch.tensor(3.0), "gradient": torch.tensor(9.0), "b": torch.tensor(2.0), "a": torch.tensor(1.0)}
    names, vector = in_one(terms, asked_to_stop=False)
    assert names == ["a", "b", "total", "gradient"]
    (reading,) = Readings().push(AT, names, vector)
    assert reading == Reading(AT, {"a": 1, "b": 2, "total": 3, "gradient": 9}, False)
    assert list(reading.terms) == names
    (stopping,) = Readings().push(AT, *in_one(terms, asked_to_stop=True))
    assert stopping.wants_to_stop
    assert Readings().rest() == []


def test_the_wish_of_one_process_among_many_is_seen() -> None:
    names, vector = in_one({"a": torch.tensor(1.0)}, asked_to_stop=True)
    (reading,) = Readings().push(AT, names, vector / 64)
    assert reading.wants_to_stop


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    terms = {"pixel": 1.0, "ssim": value, "total": value}
    with pytest.raises(TrainingError, match=rf"^loss 'ssim' is {value} at step 42 \(epoch 3, learning rate 5e-05\)"):
        check_finite(Reading(AT, terms, False), nn.Linear(1, 1))


def test_a_gradient_is_named_by_its_parameter_when_it_can_be_seen() -> None:
    module = nn.Linear(2, 1)
    reading = Reading(AT, {"total": 1.0, "gradient": math.inf}, False)
    with pytest.raises(TrainingError, match=r"^the gradient is inf"):
        check_finite(reading, module)
    module.weight.grad, module.bias.grad = torch.zeros(1, 2), torch.tensor([math.inf])
    with pytest.raises(TrainingError, match=r"^the gradient of bias is inf"):
        check_finite(reading, module)


def test_finite_losses_pass() -> None:
    check_finite(Reading(AT, {"a": 0.0, "b": -1e30}, False), nn.Linear(1, 1))
