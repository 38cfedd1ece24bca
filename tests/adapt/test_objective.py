"""The expression stage's step equals the authors' numbers, and a plain second version with other weights and images."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from benchmarks.plain_facecycle import PlainStep, authors_step
from tests.adapt.golden import golden_networks, golden_step, gradient_norms, normalised, plain_model
from torch import Tensor, nn

from psm_adapt.losses import PUBLISHED, LossWeights
from psm_adapt.networks import Design, Networks, build_networks, build_perceptual, seeded_noise
from psm_adapt.objective import Cycle, cycle_terms, draw_cycle, perceptual_distance, score_cycle, swap_halves

ARRAYS = {
    "codes": "code",
    "flow": "flow",
    "back": "backflow",
    "neutral": "neutral",
    "direct_forward": "direct_forward",
    "direct_backward": "direct_backward",
    "swap_backward": "swap_backward",
    "rebuilt": "recon",
    "copied": "rec_img",
}
"""Our names and the authors'."""


def faces(count: int, seed: int) -> Tensor:
    """Random images, smooth enough to have structure: [count, 3, 64, 64], normalised space."""
    rough = np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    return normalised(rough.repeat(8, 2).repeat(8, 3))


def light_model() -> tuple[Networks, nn.Module | None]:
    design = Design(generator="light", stem="learned", perceptual="random", init="he")
    return build_networks(design, 3), build_perceptual(design)


def test_three_steps_are_the_authors_steps() -> None:
    golden = golden_step()
    networks, perceptual = golden_networks("dev")
    check_weights(networks, golden.weight_sums)
    images = normalised(golden.arrays["images_uint8"])
    optimiser = torch.optim.Adam(list(networks.trained()), lr=5e-5, betas=(0.5, 0.999))
    for number, wanted in enumerate(golden.steps):
        optimiser.zero_grad()
        cycle = draw_cycle(networks, images)
        terms = score_cycle(cycle, images, perceptual, PUBLISHED)
        terms.total.backward()
        if number == 0:
            check_arrays(cycle, golden.arrays)
        for name, value in terms.named().items():
            assert value.item() == pytest.approx(wanted[name], rel=1e-4), (number, name)
        assert gradient_norms(networks) == pytest.approx(wanted["grad_norm"], rel=1e-3), number
        optimiser.step()


def check_weights(networks: Networks, sums: dict[str, float]) -> None:
    for name, weight in networks.encoder.state_dict().items():
        assert float(weight.double().sum()) == pytest.approx(sums[f"codegeneration/{name}"], abs=1e-6)


def check_arrays(cycle: Cycle, wanted: dict[str, np.ndarray]) -> None:
    for ours, theirs in ARRAYS.items():
        given = getattr(cycle, ours).detach().numpy()
        np.testing.assert_allclose(given, wanted[theirs].reshape(given.shape), rtol=0, atol=3e-5, err_msg=ours)


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[PlainStep, dict[str, Tensor]]]:
    """A step of the plain version with other weights and images, and its gradients."""
    networks, perceptual = golden_networks("other")
    images = faces(4, 1)
    step = authors_step(plain_model(networks, perceptual), images[:2], images[2:], False, neutral_weight=0.3)
    step.terms["total"].backward()
    gradients = {name: weight.grad for name, weight in networks.named_parameters() if weight.grad is not None}
    return step, gradients


def test_with_other_weights_and_images_it_is_the_plain_step(plain: tuple[PlainStep, dict[str, Tensor]]) -> None:
    step, gradients = plain
    networks, perceptual = golden_networks("other")
    images = faces(4, 1)
    cycle = draw_cycle(networks, images)
    terms = score_cycle(cycle, images, perceptual, LossWeights(neutral=0.3))
    check_arrays(cycle, {name: drawn.detach().numpy() for name, drawn in step.images.items()})
    for name, value in terms.named().items():
        assert value.item() == pytest.approx(step.terms[name].item(), rel=2e-5), name
    terms.total.backward()
    whole = gradient_norms(networks)
    for name, weight in networks.named_parameters():
        assert (weight.grad is None) == (name not in gradients), name
        if weight.grad is not None:
            # 1e-4 of the network's gradient is enough for theta's bias, which has none but rounding
            scale = max(gradients[name].norm().item(), 1e-4 * whole[name.split(".")[0]])
            assert (weight.grad - gradients[name]).norm().item() < 5e-3 * scale, name


def test_bfloat16_gives_nearly_the_same_loss_and_gradient(plain: tuple[PlainStep, dict[str, Tensor]]) -> None:
    step, gradients = plain
    networks, perceptual = golden_networks("other")
    networks.to(memory_format=torch.channels_last)
    perceptual.to(memory_format=torch.channels_last)
    images = faces(4, 1)
    with torch.autocast("cpu", torch.bfloat16):
        terms = cycle_terms(networks, perceptual, images[:2], images[2:], weights=LossWeights(neutral=0.3))
    for name, value in terms.named().items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(step.terms[name].item(), rel=5e-3), name
    terms.total.backward()
    ours = torch.cat([weight.grad.flatten() for weight in networks.trained() if weight.grad is not None])
    wanted = torch.cat([gradients[name].flatten() for name in trained_names(networks)])
    assert torch.cosine_similarity(ours, wanted, dim=0) > 0.98
    assert (ours.norm() / wanted.norm()).item() == pytest.approx(1, abs=0.05)


def trained_names(networks: Networks) -> list[str]:
    names = {id(weight): name for name, weight in networks.named_parameters()}
    return [names[id(weight)] for weight in networks.trained()]


def test_the_light_design_learns_within_a_few_steps() -> None:
    networks, perceptual = light_model()
    images = faces(4, 2)
    optimiser = torch.optim.Adam(list(networks.trained()), lr=5e-4, betas=(0.5, 0.999))
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            total = cycle_terms(networks, perceptual, images[:2], images[2:]).total
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(weight.grad is not None for weight in networks.trained())


def test_a_memory_layout_changes_nothing() -> None:
    networks, perceptual = light_model()
    images = faces(4, 4)
    before = cycle_terms(networks, perceptual, images[:2], images[2:]).named()
    networks.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    after = cycle_terms(networks, perceptual, images[:2], images[2:]).named()
    for name, value in before.items():
        assert after[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_weights_weigh_their_terms() -> None:
    networks, perceptual = light_model()
    images = faces(4, 5)
    cycle = draw_cycle(networks, images)
    plain = score_cycle(cycle, images, perceptual, PUBLISHED)
    weights = LossWeights(pixel=2, perceptual=3, symmetry=5, ssim=7, neutral=0)
    other = score_cycle(cycle, images, perceptual, weights)
    unweighted = (plain.pixel, plain.perceptual, plain.ssim)
    assert (other.pixel, other.perceptual, other.ssim) == unweighted
    mirror_image_apart = (cycle.direct_forward - cycle.direct_forward.flip(-1)).abs().mean()
    assert other.symmetry.item() == pytest.approx(0.5 * mirror_image_apart.item(), rel=1e-5)
    total = 2 * plain.pixel + 3 * plain.perceptual + 7 * plain.ssim + 5 * other.symmetry
    assert other.total.item() == pytest.approx(total.item(), rel=1e-6)


def test_noise_reaches_what_is_deformed_and_nothing_else() -> None:
    networks, _ = golden_networks("noise")
    images = faces(2, 6)
    with torch.no_grad():
        quiet = draw_cycle(networks, images)
        noisy, again, other = (draw_cycle(networks, images, seeded_noise(seed)) for seed in (1, 1, 2))
    assert torch.equal(noisy.neutral, again.neutral)
    assert torch.equal(noisy.rebuilt, again.rebuilt)
    for drawn in (quiet, other):
        assert not torch.equal(noisy.neutral, drawn.neutral)
        assert torch.equal(noisy.copied, drawn.copied)
        assert torch.equal(noisy.direct_backward, drawn.direct_backward)


def test_without_a_perceptual_network_its_term_is_zero() -> None:
    networks, _ = light_model()
    images = faces(2, 7)
    terms = cycle_terms(networks, None, images[:1], images[1:])
    assert terms.perceptual.item() == 0
    assert terms.total.item() > 0


def test_all_drawings_are_compared_with_the_images() -> None:
    _, perceptual = light_model()
    images = faces(2, 8)
    apart = perceptual_distance(perceptual, (images.flip(2), images), images)
    assert float(apart) == pytest.approx(
        float(perceptual_distance(perceptual, (images.flip(2),), images)) / 2, rel=1e-4
    )
    assert float(perceptual_distance(perceptual, (images,), images)) < 1e-8


def test_halves_are_exchanged() -> None:
    assert swap_halves(torch.tensor([0, 1, 2, 3])).tolist() == [2, 3, 0, 1]
