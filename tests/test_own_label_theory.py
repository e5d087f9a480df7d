"""The formulas of one row and a linear head agree with simulations of what they are about."""

import pytest

from reproduction.own_label import theory

RATES = (0.05, 0.3)


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("kind", theory.READS)
def test_where_the_heads_weight_goes(kind, n):
    formula = theory.trust(kind, n, *theory.variances(RATES))
    assert formula == pytest.approx(theory.simulated_trust(theory.READS[kind], n, RATES), rel=1e-9)


@pytest.mark.parametrize("n", [2, 5])
def test_what_it_costs_on_fresh_impressions(n):
    tau2, sigma2 = theory.variances(RATES)
    best = theory.best_trust(n, tau2, sigma2)
    for a in (0.0, best, 1.0):
        formula = theory.fresh_loss(a, n, tau2, sigma2)
        assert formula == pytest.approx(theory.simulated_fresh_loss(a, n, RATES), rel=1e-9)
        assert formula >= theory.fresh_loss(best, n, tau2, sigma2)
