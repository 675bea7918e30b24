"""Conjugate gradients against dense linear algebra."""

import pytest
import torch

from invdiff.blur import conjugate_gradients


def systems(batch, size, seed=0):
    """Positive matrices of different scales, and right-hand sides of images' shape."""
    g = torch.Generator().manual_seed(seed)
    half = torch.randn(batch, size, size, generator=g, dtype=torch.float64)
    matrix = half @ half.mT / size + 0.1 * torch.eye(size, dtype=torch.float64)
    return matrix * 10.0 ** torch.arange(batch).view(-1, 1, 1), torch.randn(
        batch, 3, 1, size // 3, generator=g
    ).double()


def solve(matrix, right, iterations):
    return conjugate_gradients(lambda x: (matrix @ x.flatten(1)[..., None]).view_as(x), right, iterations)


def test_it_solves():
    """As many steps as there are unknowns are enough."""
    matrix, right = systems(3, 12)
    want = torch.linalg.solve(matrix, right.flatten(1)).view_as(right)
    torch.testing.assert_close(solve(matrix, right, 12), want, rtol=1e-8, atol=1e-10)


def test_each_sample_by_itself():
    matrix, right = systems(3, 12)
    together = solve(matrix, right, 4)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(solve(matrix[one], right[one], 4), together[one], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_to_solve_and_more_steps_than_needed(dtype):
    """Zero stays zero, and what is solved stays solved."""
    matrix, right = (v.to(dtype) for v in systems(2, 12))
    assert not bool(solve(matrix, torch.zeros_like(right), 5).any())
    again = solve(matrix, right, 200)
    torch.testing.assert_close(again, torch.linalg.solve(matrix, right.flatten(1)).view_as(right), rtol=1e-3, atol=1e-4)


def test_what_the_product_does_not_see_stays_at_zero():
    """A singular system whose right-hand side it can reach: the shortest solution."""
    matrix = torch.diag(torch.tensor([2.0, 1.0, 0.0]).double())[None]
    found = solve(matrix, torch.tensor([4.0, 3.0, 0.0]).double().view(1, 3, 1, 1), 10)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 3.0, 0.0]).double())
