import numpy as np
import pytest
import torch

from multiepoch_lab.data import AdsWorld
from multiepoch_lab.data.ads_world import POSITIVE_RATE

SMALL = dict(n_users=2_000, n_products=1_000, n_campaigns=100, n_advertisers=20)


def same_bytes(left, right):
    def raw(log):
        columns = [*log.ids.values(), log.dense, log.labels, log.day, log.p_true]
        return [column.numpy().tobytes() for column in columns]

    return left.schema == right.schema and raw(left) == raw(right)


def test_a_day_is_the_same_whatever_was_asked_before():
    fresh = AdsWorld(seed=3, **SMALL).day(7, n=40_000)  # more than one chunk
    used = AdsWorld(seed=3, **SMALL)
    used.days(0, 2)
    used.day(30, n=10)
    assert same_bytes(fresh, used.day(7, n=40_000))
    assert not same_bytes(fresh, AdsWorld(seed=4, **SMALL).day(7, n=40_000))


def test_days_are_single_days_one_after_the_other():
    world = AdsWorld(impressions_per_day=1_000, **SMALL)
    log = world.days(2, 4)
    assert torch.bincount(log.day).tolist() == [0, 0, 1_000, 1_000, 1_000]
    for day in (2, 3, 4):
        alone = world.day(day)
        assert alone.schema == world.schema(day)
        assert torch.equal(log.days(day).ids["product"], alone.ids["product"])
        assert torch.equal(log.days(day).labels, alone.labels)
    assert log.schema == world.schema(4)


@pytest.mark.parametrize("seed", range(10))
def test_positive_rates_hold_on_every_seed(seed):
    world = AdsWorld(seed=seed, **SMALL)
    for day in (0, 9):
        log = world.day(day, n=60_000)
        # p_true rather than labels: the draw of a label adds noise that is no fault of the world.
        for rate, expected in zip(log.p_true.double().mean(0).tolist(), POSITIVE_RATE):
            assert rate == pytest.approx(expected, rel=0.1)


def test_labels_form_a_funnel_and_follow_p_true():
    log = AdsWorld(**SMALL).day(0, n=200_000)
    click, cart, checkout = log.labels.T
    assert (cart <= click).all() and (checkout <= cart).all()
    assert (log.p_true[:, 1:] <= log.p_true[:, :-1]).all()
    for k in range(3):
        p, y = log.p_true[:, k].double(), log.labels[:, k].double()
        order = p.argsort()
        for part in order.chunk(5):  # calibrated at every level of p, to four standard errors
            error = (y[part] - p[part]).sum().abs()
            assert error <= 4 * (p[part] * (1 - p[part])).sum().sqrt() + 1


def assert_one_value_each(keys, values):
    pairs = len((keys * (values.max() + 1) + values).unique())
    assert pairs == len(keys.unique())


def test_ids_lie_in_the_tables_and_the_hierarchy_is_fixed():
    world = AdsWorld(impressions_per_day=20_000, **SMALL)
    log = world.days(0, 3)
    for name, rows in log.schema.cardinality.items():
        assert log.ids[name].min() >= 0 and log.ids[name].max() < rows
    for child, parent in (("product", "campaign"), ("campaign", "advertiser")):
        assert_one_value_each(log.ids[child], log.ids[parent])
    assert_one_value_each(
        log.ids["user"] * world.n_advertisers + log.ids["advertiser"], log.ids["user_x_advertiser"]
    )


@pytest.mark.parametrize("churn, births", [(0.05, 50), (0.3, 300), (0.0, 0), (1.0, 1000)])
def test_churn_gives_new_ids_to_that_share_of_the_products(churn, births):
    world = AdsWorld(churn=churn, **SMALL)
    ids = [set(world._truth(day).product_id.tolist()) for day in range(8)]
    for day in range(8):
        assert len(ids[day]) == 1_000
        assert max(ids[day]) == world.schema(day).cardinality["product"] - 1
        assert len(ids[day] - ids[day - 1]) == births or day == 0
        # born in order: whoever is new today comes after whoever was there yesterday
        assert day == 0 or not births or min(ids[day] - ids[day - 1]) > max(ids[day - 1])


def test_a_product_keeps_its_factors_until_it_is_replaced():
    world = AdsWorld(churn=0.25, **SMALL)
    today, tomorrow = world._truth(5), world._truth(6)
    kept = today.product_id == tomorrow.product_id
    assert kept.sum() == 750
    assert np.array_equal(today.products[kept], tomorrow.products[kept])
    changed = today.products[~kept] != tomorrow.products[~kept]
    assert changed[:, :4].all()
    # Advertiser and campaign shares stay: .6 of the variance is common to old and new.
    assert 0.4 < np.corrcoef(today.products[~kept, 0], tomorrow.products[~kept, 0])[0, 1] < 0.8


def test_a_world_that_stands_still_has_one_truth():
    world = AdsWorld(churn=0, drift=0, **SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(world._truth(0), world._truth(40)))
    assert not torch.equal(world.day(0, n=100).ids["user"], world.day(1, n=100).ids["user"])


def test_tastes_drift_without_growing():
    world = AdsWorld(**SMALL | {"n_users": 20_000})
    tastes = {day: world._truth(day).users[:, :4] for day in (0, 1, 30, 90)}
    for day, users in tastes.items():
        assert users.std() == pytest.approx(1, abs=0.02)
        expected = np.exp(-((day * world.drift) ** 2) / 2)
        assert np.mean(users * tastes[0]) == pytest.approx(expected, abs=0.03)


def test_exposure_follows_the_power_law():
    log = AdsWorld(**SMALL).day(0, n=300_000)
    for name, exponent, n in (("user", 0.7, 2_000), ("product", 1.0, 1_000)):
        share = np.arange(1, n + 1) ** -exponent
        share /= share.sum()
        seen = np.sort(np.bincount(log.ids[name], minlength=n) / 300_000)[::-1]
        for top in (1, 10, 100):
            assert seen[:top].sum() == pytest.approx(share[:top].sum(), rel=0.1)


def test_dense_features_are_standardised():
    log = AdsWorld(**SMALL).day(0, n=200_000)
    assert log.dense.isfinite().all()
    for name, column in zip(log.schema.dense, log.dense.T):
        # A handful of products carry most impressions, so the price is only roughly centred.
        slack = 0.7 if name == "price" else 0.02
        assert column.mean().item() == pytest.approx(0, abs=slack)
        assert column.std().item() == pytest.approx(1, abs=slack)


def test_no_impressions_is_a_log_too():
    log = AdsWorld(**SMALL).day(0, n=0)
    assert len(log) == 0 and log.p_true.shape == (0, 3)


def test_candidates_share_their_request_and_follow_the_truth():
    world, k = AdsWorld(**SMALL), 5
    log = world.candidates(3, 20_000, k)
    assert len(log) == 100_000 and log.schema == world.schema(3) and (log.day == 3).all()
    own = [log.schema.dense.index("price")]
    shared = [j for j in range(len(log.schema.dense)) if j not in own]
    for column in (log.ids["user"], *log.dense[:, shared].T):
        by_request = column.view(-1, k)
        assert (by_request == by_request[:, :1]).all()
    assert (log.ids["product"].view(-1, k) != log.ids["product"].view(-1, k)[:, :1]).any()
    hour = torch.atan2(log.dense[::k, 0], log.dense[::k, 1]) % (2 * torch.pi)
    assert (hour.diff() >= -1e-6).all()
    # Shown at random, candidates give the rates of any day, and their labels follow p_true.
    first, p = log[torch.arange(0, len(log), k)], log.p_true[::k].double()
    assert p.mean(0).tolist() == pytest.approx(POSITIVE_RATE, rel=0.1)
    error = (first.labels - p).sum(0).abs()
    assert (error <= 4 * (p * (1 - p)).sum(0).sqrt()).all()
    # One draw a request: an ad with a higher probability never lacks what a lower one has.
    p, drawn = (of[:, 0].view(-1, k) for of in (log.p_true, log.labels))
    assert (drawn.gather(1, p.argsort(dim=1)).diff(dim=1) >= 0).all()


def test_candidates_and_impressions_have_one_truth():
    world = AdsWorld(seed=3, drift=0, churn=0, **SMALL)
    log, candidates = world.day(0, n=60_000), world.candidates(0, 1_000, 60)
    assert same_bytes(candidates, world.candidates(0, 1_000, 60))

    def product_terms(log):
        """Returns the product's parts of the truth, by id."""
        price = log.dense[:, log.schema.dense.index("price")]
        columns = [log.ids["campaign"], log.ids["advertiser"], price]
        return {int(i): tuple(row) for i, *row in zip(log.ids["product"], *columns)}

    one, other = product_terms(log), product_terms(candidates)
    both = one.keys() & other.keys()
    assert len(both) > 500 and all(one[i] == other[i] for i in both)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: AdsWorld(seed=-1), "seed is -1"),
        (lambda: AdsWorld(n_users=1.5), "n_users is 1.5"),
        (lambda: AdsWorld(churn=1.5), "churn is 1.5"),
        (lambda: AdsWorld(drift=-0.1), "drift is -0.1"),
        (lambda: AdsWorld(**SMALL).day(-1), "days -1"),
        (lambda: AdsWorld(**SMALL).days(3, 2), "days 3 to 2"),
        (lambda: AdsWorld(**SMALL).day(0, n=-5), "n is -5"),
        (lambda: AdsWorld(**SMALL).candidates(-1, 5, 2), "day is -1"),
        (lambda: AdsWorld(**SMALL).candidates(0, 5, 0), "k is 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_interplay_a_product_is_liked_by_all_or_by_none():
    log = AdsWorld(seed=3, n_users=50, n_products=40, taste_scale=0.0).candidates(0, n=300, k=2)
    logit = log.p_true[:, 0].logit().view(300, 2)
    product = log.ids["product"].view(300, 2)
    apart = (logit[:, 0] - logit[:, 1]).double()
    # Only the products' biases and prices differ within a request, so each pair differs by as much.
    for pair in product.unique(dim=0):
        same = (product == pair).all(dim=1)
        assert apart[same].max() - apart[same].min() < 1e-4, pair
