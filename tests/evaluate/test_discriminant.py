from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.discriminant import fit_discriminant


def classes(count: int, seed: int, stretch: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three Gaussians with one, strongly correlated, covariance."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    mixing = torch.tensor([[1.0, 0.9], [0.0, 0.2]]) * stretch
    labels = torch.randint(3, (count,), generator=generator)
    return means[labels] + torch.randn(count, 2, generator=generator) @ mixing + 100, labels


def test_scores_are_the_log_posterior_of_the_fitted_gaussians() -> None:
    x, labels = classes(4000, 0)
    fitted = fit_discriminant(x, labels, 3, shrinkage=0)
    means = torch.stack([x[labels == k].double().mean(0) for k in range(3)])
    centred = x.double() - means[labels]
    within = centred.T @ centred / (len(x) - 3)
    point = x[:5].double()
    log = torch.stack([torch.distributions.MultivariateNormal(mean, within).log_prob(point) for mean in means], dim=1)
    torch.testing.assert_close(fitted(x[:5]).double().log_softmax(1), log.log_softmax(1), rtol=1e-3, atol=1e-3)


def test_correlation_is_used_unless_shrunk_away() -> None:
    x, labels = classes(3000, 1)
    test, truth = classes(3000, 2)
    accuracy = [
        float((fit_discriminant(x, labels, 3, shrinkage=s)(test).argmax(1) == truth).float().mean()) for s in (0, 1)
    ]
    assert accuracy[0] > accuracy[1] + 0.1


def test_more_dimensions_than_examples_still_classify() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(4).repeat(6)
    means = torch.randn(4, 60, generator=generator)
    draw = [means[labels] + 0.7 * torch.randn(24, 60, generator=generator) for _ in range(2)]
    fitted = fit_discriminant(draw[0].half(), labels, 4, shrinkage=0.2)
    assert (fitted(draw[1]).argmax(1) == labels).float().mean() > 0.9


def test_clear_errors() -> None:
    x, labels = classes(50, 0)
    with pytest.raises(ValueError, match="each of the 4"):
        fit_discriminant(x, labels, 4)
    with pytest.raises(ValueError, match="shrinkage"):
        fit_discriminant(x, labels, 3, shrinkage=2)
    with pytest.raises(ValueError, match="more than one"):
        fit_discriminant(x[:3], torch.arange(3), 3)
