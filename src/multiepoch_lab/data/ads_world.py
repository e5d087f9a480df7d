"""`AdsWorld`: an endless synthetic log of ad impressions with known true probabilities.

In each impression a user sees a product at some hour and some depth of the feed. The product
belongs to a campaign, and the campaign to an advertiser. The labels are a funnel: a checkout needs
an add-to-cart, which needs a click. The log keeps the probability that each label was drawn with
as `p_true`. Days can be generated in any order: a day depends only on (seed, day, n).
"""

from dataclasses import astuple, dataclass
from functools import cached_property
from numbers import Integral
from typing import NamedTuple

import numpy as np

from multiepoch_lab.data.hashing import hashed_cross
from multiepoch_lab.data.log import Log, Schema

OBJECTIVES = ("click", "add_to_cart", "checkout")
DENSE = ("hour_sin", "hour_cos", "user_activity", "price", "position")

# Share of all impressions with each label. Design target of the project: the order of magnitude of
# conversion funnels, but dense enough to learn checkouts from 1M impressions.
POSITIVE_RATE = (0.10, 0.025, 0.01)

# The truth. A label's logit, given the label before it in the funnel, is
#     taste_scale * sum_k MIXTURE[objective, k] u_k v_k / sqrt(N_FACTORS)
#     + the user's bias + the product's bias + DENSE_EFFECT[objective] . dense + an intercept,
# with u_k and v_k standard normal. All effects are in logits. Assumed, not measured: tastes weigh
# three times as much as a bias, so that most of the signal is in the tables.
N_FACTORS = 4
TASTE_SCALE = 1.5
USER_BIAS = 0.5  # standard deviation over users
PRODUCT_BIAS = 0.5  # standard deviation over products
# Rows have mean square 1. The logits' taste parts correlate at .8 (click with either) and .64.
MIXTURE = np.array([[1, 1, 1, 1], [1.4, 1.4, 0.2, 0.2], [0.2, 1.4, 1.4, 0.2]], dtype=np.float32)
# Logits for one standard deviation. Assumed: evenings sell, active users act more, high prices
# deter buyers more than they deter lookers, and depth in the feed costs attention only.
DENSE_EFFECT = np.array(
    [
        # hour_sin, hour_cos, user_activity, price, position
        [-0.10, 0.15, 0.20, -0.10, -0.40],
        [-0.15, 0.10, 0.10, -0.25, 0.0],
        [-0.10, 0.20, 0.10, -0.35, 0.0],
    ],
    dtype=np.float32,
)
# Share of the variance of a product's factors and bias that comes from each level. Assumed.
ADVERTISER_SHARE, CAMPAIGN_SHARE, OWN_SHARE = 0.3, 0.3, 0.4

# Exposure of the r-th most exposed user or product is in proportion to r ** -exponent. Web traffic
# is reported between 0.6 and 1 (Breslau et al., INFOCOM 1999); products are the steeper side.
USER_ZIPF, PRODUCT_ZIPF = 0.7, 1.0

# Rows of the hashed cross for each user. Assumed: the first 1M impressions of the default world
# contain 0.8M distinct pairs, which then share 0.55M of 1M rows; most pairs are seen once.
CROSS_ROWS_PER_USER = 10

CHUNK = 1 << 15  # impressions generated at a time: their working memory fits in the cache
_INTERCEPTS: dict[tuple, np.ndarray] = {}  # by the world and the day: to solve for them takes long
CALIBRATION_SAMPLE = 1 << 17  # impressions on which the intercepts are solved

# Each kind of random draw has its own stream, keyed by (seed, kind, ...).
_USERS, _PRODUCTS, _CAMPAIGNS, _ADVERTISERS = range(4)
_EXPOSURE, _CALIBRATION, _IMPRESSIONS, _REQUESTS = range(4, 8)


class _Truth(NamedTuple):
    """The truth of one day. K = N_FACTORS + 2: the factors, then both sides of the biases."""

    users: np.ndarray  # (n_users, K)
    products: np.ndarray  # (n_products, K)
    product_id: np.ndarray  # (n_products,) the id that each slot shows today
    price: np.ndarray  # (n_products,)
    intercept: np.ndarray  # (n_objectives,)


@dataclass(frozen=True)
class AdsWorld:
    """Generates the logs of a world of users and products; `day(d)` is day d = 0, 1, 2, ...

    A product's id is its rank by day of birth, so tables grow with the days; `schema(last_day)`
    gives their size. The intercepts are solved for each day, so that the positive rates stay at
    POSITIVE_RATE whichever products are new, as in a market paced to a budget.

    Args:
        seed: A non-negative integer; identifies the world.
        n_users: Users, the same every day.
        n_products: Products on offer at any time, each in a slot with a popularity and a campaign.
        n_campaigns, n_advertisers: Slots are dealt evenly to campaigns, and these to advertisers.
        impressions_per_day: The default size of a day.
        churn: Share of the products that new ones replace each day, with new ids and factors, but
            the campaign and the popularity of their slot. Assumed: an ad lives 20 days.
        drift: Radians per day, the root mean square over users of the angle by which tastes turn.
            Tastes k days apart correlate at exp(-(k * drift) ** 2 / 2) on average. Assumed: 0.04,
            so that the correlation halves in a month.
        taste_scale: Logits for a match of one standard deviation between a user's tastes and a
            product, as in TASTE_SCALE: how strong the interplay of ids is.

    Raises:
        ValueError: If an argument is out of range.
    """

    seed: int = 0
    n_users: int = 100_000
    n_products: int = 50_000
    n_campaigns: int = 2_500
    n_advertisers: int = 250
    impressions_per_day: int = 250_000
    churn: float = 0.05
    drift: float = 0.04
    taste_scale: float = TASTE_SCALE

    def __post_init__(self) -> None:
        least = dict.fromkeys(("n_campaigns", "n_advertisers", "impressions_per_day"), 1)
        least |= {"seed": 0, "n_users": 2, "n_products": 2}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < minimum:
                raise ValueError(f"AdsWorld: {name} is {value!r}; give an integer >= {minimum}.")
        if not 0 <= self.churn <= 1:
            raise ValueError(f"AdsWorld: churn is {self.churn!r}; give a share a day, from 0 to 1.")
        for name, unit in (("drift", "radians a day"), ("taste_scale", "logits")):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"AdsWorld: {name} is {value!r}; give {unit}, 0 or more.")

    def day(self, day: int, n: int | None = None) -> Log:
        """Generates n impressions of one day, by default `impressions_per_day`, in any order.

        The same (world, day, n) gives the same bytes with the same version of NumPy.
        """
        return self._log(day, day, self.impressions_per_day if n is None else n)

    def days(self, first: int, last: int) -> Log:
        """Generates days first to last, both included, one after the other."""
        return self._log(first, last, self.impressions_per_day)

    def candidates(self, day: int, n: int, k: int) -> Log:
        """Generates n requests for an ad on one day, each with k ads that may be shown.

        Users and ads are drawn as in `day`, so an ad may be drawn twice for a request. The k ads of
        a request share its user, hour and depth. `labels` are what would follow if the ad were
        shown: one draw for all ads of a request.

        Returns:
            A log of n * k rows; request j has rows j * k to (j + 1) * k - 1. Requests are in the
            order of their hours.
        """
        if day < 0 or n < 0 or k < 1:
            found = f"day is {day!r}, n is {n!r} and k is {k!r}"
            raise ValueError(f"AdsWorld: {found}; give day >= 0, n >= 0 and k >= 1.")
        truth, rng = self._truth(day), self._rng(_REQUESTS, day)
        users, slots = self._draw_exposed(rng.random(n), rng.random(n * k))
        dense = self._dense(truth, users, slots[::k], rng)
        by_hour = np.argsort(np.arctan2(dense[:, 0], dense[:, 1]) % (2 * np.pi))
        users, dense = (np.repeat(of[by_hour], k, axis=0) for of in (users, dense))
        dense[:, DENSE.index("price")] = truth.price[slots]
        draw = np.repeat(rng.random((n, 1), dtype=np.float32), k, axis=0)
        schema = self.schema(day)
        ids, p_true, labels = self._outcomes(truth, users, slots, dense, draw, schema)
        columns = dict(dense=dense, labels=labels, day=np.full(n * k, day), p_true=p_true)
        return Log.from_numpy(schema, ids, **columns)

    def schema(self, last_day: int) -> Schema:
        """Returns the schema, with the number of ids used up to and including `last_day`."""
        cardinality = {
            "user": self.n_users,
            "product": self.n_products + self._births(last_day),
            "campaign": self.n_campaigns,
            "advertiser": self.n_advertisers,
            "user_x_advertiser": CROSS_ROWS_PER_USER * self.n_users,
        }
        return Schema(cardinality, DENSE, OBJECTIVES)

    # Who is there ------------------------------------------------------------------------------

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, *key))))

    def _births(self, day: int) -> int:
        """Counts the products replaced from day 1 to `day`."""
        return int(self.churn * self.n_products * day + 1e-9)

    def _generation(self, day: int) -> np.ndarray:
        """Counts how often each slot was replaced up to `day`, (n_products,).

        Slots are replaced in turn, so birth j is in slot j mod n_products. The new id is
        n_products + j = slot + n_products * generation, so no earlier day is needed.
        """
        slot = np.arange(self.n_products)
        return (self._births(day) - slot + self.n_products - 1) // self.n_products

    @cached_property
    def _user_draws(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draws each user's start and quarter turn, (n_users, N_FACTORS) each, speed and bias."""
        rng, shape = self._rng(_USERS), (2, self.n_users, N_FACTORS)
        start, quarter_turn = rng.standard_normal(shape, dtype=np.float32)
        speed = self.drift * rng.standard_normal((self.n_users, 1))
        bias = USER_BIAS * rng.standard_normal(self.n_users, dtype=np.float32)
        return start, quarter_turn, speed, bias

    @cached_property
    def _shared_draws(self) -> np.ndarray:
        """Sums each slot's factors of campaign and advertiser, (n_products, N_FACTORS + 1)."""
        campaign, advertiser = (
            self._rng(kind).standard_normal((n, N_FACTORS + 1), dtype=np.float32)
            for kind, n in ((_CAMPAIGNS, self.n_campaigns), (_ADVERTISERS, self.n_advertisers))
        )
        of_campaign = np.arange(self.n_campaigns) % self.n_advertisers
        both = CAMPAIGN_SHARE**0.5 * campaign + ADVERTISER_SHARE**0.5 * advertiser[of_campaign]
        return both[np.arange(self.n_products) % self.n_campaigns]

    @cached_property
    def _exposure(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns cumulative shares and ids by rank, of users, then of slots; user activity."""
        rng = self._rng(_EXPOSURE)
        kinds = (self.n_users, USER_ZIPF), (self.n_products, PRODUCT_ZIPF)
        user_share, slot_share = (np.arange(1, n + 1) ** -zipf for n, zipf in kinds)
        user_share, slot_share = user_share / user_share.sum(), slot_share / slot_share.sum()
        user_at, slot_at = (rng.permutation(n) for n, _ in kinds)
        log_share = np.log(user_share)  # standardised over impressions, as the model sees it
        log_share -= user_share @ log_share
        log_share /= np.sqrt(user_share @ log_share**2)
        activity = np.empty(self.n_users, dtype=np.float32)
        activity[user_at] = log_share
        return np.cumsum(user_share), user_at, np.cumsum(slot_share), slot_at, activity

    def _draw_exposed(self, users: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turns uniform draws in [0, 1), (n,) each, into user and slot numbers, (n,) each."""
        user_cdf, user_at, slot_cdf, slot_at, _ = self._exposure
        # Rounding can leave the last cumulative share just below 1.
        user_rank = np.minimum(np.searchsorted(user_cdf, users, "right"), self.n_users - 1)
        slot_rank = np.minimum(np.searchsorted(slot_cdf, slots, "right"), self.n_products - 1)
        return user_at[user_rank], slot_at[slot_rank]

    # What is true ------------------------------------------------------------------------------

    def _truth(self, day: int) -> _Truth:
        start, quarter_turn, speed, user_bias = self._user_draws
        angle = speed * day
        users = np.ones((self.n_users, N_FACTORS + 2), dtype=np.float32)
        # Rotation keeps the tastes standard normal on every day.
        users[:, :N_FACTORS] = np.cos(angle) * start + np.sin(angle) * quarter_turn
        users[:, N_FACTORS] = user_bias

        generation = self._generation(day)
        own = np.empty((self.n_products, N_FACTORS + 2), dtype=np.float32)
        for g in np.unique(generation):  # at most two on any day
            rows = generation == g
            rng = self._rng(_PRODUCTS, int(g))
            own[rows] = rng.standard_normal(own.shape, dtype=np.float32)[rows]
        price, own = own[:, -1].copy(), own[:, :-1]
        factors = self._shared_draws + np.float32(OWN_SHARE**0.5) * own
        products = np.ones((self.n_products, N_FACTORS + 2), dtype=np.float32)
        products[:, :N_FACTORS] = factors[:, :N_FACTORS]
        products[:, N_FACTORS + 1] = PRODUCT_BIAS * factors[:, N_FACTORS]
        product_id = np.arange(self.n_products) + self.n_products * generation

        truth = _Truth(users, products, product_id, price, np.zeros(len(OBJECTIVES), np.float32))
        key = (*astuple(self), day)
        if key not in _INTERCEPTS:
            _INTERCEPTS[key] = self._solve_intercepts(truth)
        return truth._replace(intercept=_INTERCEPTS[key])

    def _solve_intercepts(self, truth: _Truth) -> np.ndarray:
        """Solves for the positive rates on one stratified sample, the same every day."""
        rng = self._rng(_CALIBRATION)
        strata = (np.arange(CALIBRATION_SAMPLE) + 0.5) / CALIBRATION_SAMPLE
        users, slots = self._draw_exposed(rng.permutation(strata), rng.permutation(strata))
        dense = self._dense(truth, users, slots, rng)
        logit = self._logits(truth, users, slots, dense).T.copy()  # (n_objectives, n)
        reached = np.ones(CALIBRATION_SAMPLE, dtype=np.float32)  # probability of the funnel so far
        intercept = np.empty(len(OBJECTIVES), dtype=np.float32)
        for k, rate in enumerate(POSITIVE_RATE):
            low, high = -20.0, 20.0
            for _ in range(22):  # bisection, to 1e-5 logits
                middle = (low + high) / 2
                too_low = np.mean(reached * _sigmoid(logit[k] + middle)) < rate
                low, high = (middle, high) if too_low else (low, middle)
            intercept[k] = middle
            reached *= _sigmoid(logit[k] + intercept[k])
        return intercept

    def _logits(
        self, truth: _Truth, users: np.ndarray, slots: np.ndarray, dense: np.ndarray
    ) -> np.ndarray:
        """Returns (n, n_objectives), each conditional on the label before it."""
        weight = np.ones((len(OBJECTIVES), N_FACTORS + 2), dtype=np.float32)
        weight[:, :N_FACTORS] = self.taste_scale / N_FACTORS**0.5 * MIXTURE
        match = truth.users[users] * truth.products[slots]  # (n, K)
        return match @ weight.T + dense @ DENSE_EFFECT.T + truth.intercept

    # What is logged ----------------------------------------------------------------------------

    def _log(self, first: int, last: int, n: int) -> Log:
        if not 0 <= first <= last:
            raise ValueError(f"AdsWorld: days {first!r} to {last!r}; they count up from 0.")
        if n < 0:
            raise ValueError(f"AdsWorld: n is {n!r}; it must be 0 or more impressions.")
        schema, total = self.schema(last), n * (last - first + 1)
        ids = {name: np.empty(total, dtype=np.int64) for name in schema.cardinality}
        dense = np.empty((total, len(DENSE)), dtype=np.float32)
        p_true = np.empty((total, len(OBJECTIVES)), dtype=np.float32)
        labels = np.empty_like(p_true)
        days = np.repeat(np.arange(first, last + 1, dtype=np.int32), n)
        for k, day in enumerate(range(first, last + 1)):
            truth = self._truth(day)
            for chunk, begin in enumerate(range(0, n, CHUNK)):
                rows = slice(k * n + begin, k * n + min(begin + CHUNK, n))
                size = rows.stop - rows.start
                rng = self._rng(_IMPRESSIONS, day, chunk)
                users, slots = self._draw_exposed(*rng.random((2, size)))
                dense[rows] = self._dense(truth, users, slots, rng)
                draw = rng.random((size, 1), dtype=np.float32)
                impressions = truth, users, slots, dense[rows], draw, schema
                found, p_true[rows], labels[rows] = self._outcomes(*impressions)
                for name, column in found.items():
                    ids[name][rows] = column
        return Log.from_numpy(schema, ids, dense=dense, labels=labels, day=days, p_true=p_true)

    def _outcomes(
        self, truth: _Truth, users, slots, dense, draw, schema: Schema
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Returns the ids, (n,) each, `p_true` and labels, (n, n_objectives), of impressions."""
        p_true = np.cumprod(_sigmoid(self._logits(truth, users, slots, dense)), axis=1)
        # One draw for all labels: p_true falls along the funnel, and so do the labels.
        labels = (draw < p_true).astype(np.float32)
        campaign = slots % self.n_campaigns
        advertiser = campaign % self.n_advertisers
        cross = hashed_cross(users, advertiser, schema.cardinality["user_x_advertiser"])
        columns = users, truth.product_id[slots], campaign, advertiser, cross
        return dict(zip(schema.cardinality, columns, strict=True)), p_true, labels

    def _dense(self, truth: _Truth, users: np.ndarray, slots: np.ndarray, rng) -> np.ndarray:
        """Returns (n, len(DENSE)), each with mean 0 and standard deviation about 1."""
        n = len(users)
        dense = np.empty((n, len(DENSE)), dtype=np.float32)
        hour = np.float32(2 * np.pi) * rng.random(n, dtype=np.float32)  # uniform over 24 hours
        dense[:, 0] = 2**0.5 * np.sin(hour)
        dense[:, 1] = 2**0.5 * np.cos(hour)
        dense[:, 2] = self._exposure[-1][users]  # log of the user's share of impressions
        dense[:, 3] = truth.price[slots]  # log of the price
        dense[:, 4] = rng.standard_normal(n, dtype=np.float32)  # log of the depth in the feed
        return dense


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
