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


def test_folds_kept_apart_on_one_table_diverge():
    for steps in (1, 5, 40):
        formula = theory.kept_apart(steps, 0.2, (0.7, 0.1))
        assert formula == pytest.approx(theory.simulated_apart(steps, 0.2, (0.7, 0.1)), rel=1e-9)
    assert formula[0] == pytest.approx(0.8, abs=1e-3) and formula[1] > 100


def test_the_trace_of_second_order():
    for k in range(5):
        formula = theory.second_order_trace(k, 5, 0.1, 0.8)
        assert formula == pytest.approx(theory.simulated_trace(k, 5, 0.1, 0.8), abs=1e-12)
        assert formula == pytest.approx(-0.8 * 0.1**2 * (4 - k), rel=0.15, abs=1e-12)
