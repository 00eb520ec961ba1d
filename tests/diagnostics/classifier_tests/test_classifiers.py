"""Many small classifiers, trained side by side."""

import torch

from pymc_nre.diagnostics.classifier_tests.classifiers import Classifiers


def test_each_learns_its_own_labels():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(1_000, 2, generator=generator) * 100 + 50  # they standardize
    labels = torch.stack([inputs[:, 0] > 50, inputs[:, 1] > 50, inputs[:, 0] < 50]).float()
    classifiers = Classifiers(inputs, 3, generator)
    weights = torch.ones(len(inputs))
    classifiers.fit(inputs, labels, weights, epochs=15, generator=generator)
    with torch.no_grad():
        right = ((classifiers(inputs) > 0) == (labels > 0)).float().mean(1)
    assert torch.all(right > 0.95)


def test_what_has_no_weight_is_not_learned():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(1_000, 1, generator=generator)
    labels = (inputs[:, 0] > 0).float()
    labels[500:] = 1 - labels[500:]
    weights = (torch.arange(1_000) < 500).float()
    classifiers = Classifiers(inputs, 1, generator)
    classifiers.fit(inputs, labels[None], weights, epochs=15, generator=generator)
    with torch.no_grad():
        right = (classifiers(inputs)[0] > 0) == (labels > 0)
    assert right[:500].float().mean() > 0.95
    assert right[500:].float().mean() < 0.05
