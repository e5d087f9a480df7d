"""Serves ads from a world whose truth is known, with models that train day by day meanwhile.

Each request has a slate of candidate ads. An arm shows the ad with the highest bid times predicted
probability of a checkout, and is judged by the true probability.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch_lab.data import Log, Schema
from multiepoch_lab.data.ads_world import DENSE
from multiepoch_lab.methods import Around, EveryEpoch
from multiepoch_lab.train import predict, train
from reproduction.runs import Profile, Run
from reproduction.runs.run import build
from reproduction.tuning import DAY_TAIL, Arm

# Assumed. The auction comes after retrieval; eight ads are enough for a choice, and every further
# one costs a prediction.
CANDIDATES = 8
# Assumed: an advertiser pays the same share of the price for each checkout. The world's `price` is
# a standardised logarithm; prices differ by a factor of 1.65 for one standard deviation.
PRICE_SPREAD = 0.5
# The served model is refreshed four times a day. Half an epoch over yesterday's log is done at the
# first refresh, one epoch at the second and two at the fourth.
QUARTERS = 4
PAID = 2  # the objective that is paid for, the checkout


ONE, NAIVE = "one epoch", "two epochs, rates for one"
REWIND, BLEND = "tail rewind", "tail rewind, blended"
ARMS = {
    ONE: Arm("plain", 1, 1),
    NAIVE: Arm("plain", 2, 1),
    "two epochs": Arm("plain", 2, 2),
    "FAL": Arm("fal", 2, 2),
    "MEDA": Arm("meda_restored", 2, 2),
    REWIND: Arm(DAY_TAIL, 2, 2),
    BLEND: Arm("day_tail_rewind_blend", 2, 2, DAY_TAIL),
}
TRUTH, RANDOM = "ranked by truth", "first candidate"  # the best and no ranking


@dataclass(frozen=True)
class Plan:
    """What is run: the arms, those that also train on their own logs, and the days.

    On day 0, ads are shown as the world exposes them; from then on, "one epoch" is in production
    and its log is the shared one. For `before` days the other arms only train on it. Then comes the
    test: for `days` days, each arm serves every request. Those in `own` do so a second time, from
    the same start, and train on what they showed themselves.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    own: tuple[str, ...] = (NAIVE, BLEND)
    before: int = 2
    days: int = 5


class ServeWhileTraining(Around):
    """The `between_epochs` of `train` that calls `serve` halfway through and after each epoch.

    The last call, after the last epoch, is left to the caller.
    """

    def __init__(self, every_epoch: EveryEpoch, half: int, serve: Callable[[], None]) -> None:
        super().__init__(every_epoch)
        self.half, self.serve, self.step = half, serve, 0

    def before_epoch(self, index: int) -> None:
        if index > 0:
            self.serve()
        self.step = 0
        super().before_epoch(index)

    def backward(self, impressions: Tensor, closure: Callable[[], Tensor]) -> Tensor:
        if self.step == self.half:
            self.serve()
        self.step += 1
        return super().backward(impressions, closure)


class Requests:
    """The requests of a day: the candidates, and what each is worth.

    Attributes:
        candidates: A log of n * k rows.
        bid: What each candidate pays for a checkout, (n, k).
        p: Its true probability of one, (n, k).
        paid: What it pays if it is shown, as drawn, (n, k).
    """

    def __init__(self, candidates: Log, schema: Schema) -> None:
        self.candidates = replace(candidates, schema=schema)
        price = candidates.dense[:, DENSE.index("price")].double()
        self.bid = (PRICE_SPREAD * price).exp().view(-1, CANDIDATES)
        self.p = candidates.p_true[:, PAID].double().view(-1, CANDIDATES)
        self.paid = self.bid * candidates.labels[:, PAID].double().view(-1, CANDIDATES)

    def rank(self, q: Tensor) -> Tensor:
        """Returns which candidate is shown under predictions q, (n, k): int64 (n,)."""
        return (self.bid * q).argmax(dim=1)

    def shown(self, choice: Tensor) -> Log:
        """Returns the log of what was shown."""
        return self.candidates[torch.arange(len(choice)) * CANDIDATES + choice]

    def measure(self, choice: Tensor, q: Tensor) -> Iterator[tuple[str, int, float]]:
        """Yields (metric, quarter, value) of a ranking, each a mean over requests.

        value is bid times the true probability; conversions, the true probability; predicted, the
        predicted one; predicted_value, bid times that; square, the mean square of what is paid, in
        expectation. predicted_all and conversions_all are means over all candidates. paid_0 and
        paid_1, square_0 and square_1 are what was drawn, over the whole day (quarter -1), for the
        users with even and with odd ids: the halves of an A/B test.
        """

        def of_shown(values: Tensor) -> Tensor:
            return values.gather(1, choice[:, None])[:, 0]

        bid, p, predicted, paid = map(of_shown, (self.bid, self.p, q, self.paid))
        found = {
            "value": bid * p,
            "conversions": p,
            "predicted": predicted,
            "predicted_value": bid * predicted,
            "square": bid**2 * p,
            "predicted_all": q.mean(dim=1),
            "conversions_all": self.p.mean(dim=1),
        }
        for metric, values in found.items():
            for quarter, value in enumerate(values.view(QUARTERS, -1).mean(dim=1).tolist()):
                yield metric, quarter, value
        half = self.candidates.ids["user"][::CANDIDATES] % 2
        for part in (0, 1):
            mine = paid[half == part]
            yield f"paid_{part}", -1, mine.mean().item()
            yield f"square_{part}", -1, (mine**2).mean().item()
            yield f"requests_{part}", -1, len(mine)

    def losses(self, logits: Tensor, shown: Tensor) -> Iterator[tuple[str, int, float]]:
        """Yields the expected logloss of each objective by quarter, on what production showed."""
        rows = torch.arange(len(shown)) * CANDIDATES + shown
        loss = F.binary_cross_entropy_with_logits(
            logits[rows].double(), self.candidates.p_true[rows].double(), reduction="none"
        )
        by_quarter = loss.view(QUARTERS, -1, loss.shape[1]).mean(dim=1)
        for quarter, values in enumerate(by_quarter.tolist()):
            for name, value in zip(self.candidates.objectives, values):
                yield f"logloss_{name}", quarter, value


class Trainee:
    """The model of an arm, trained day by day."""

    def __init__(self, arm: Arm, schema: Schema, seed: int, batch_size: int, device: str) -> None:
        self.arm, self.seed, self.batch_size, self.device = arm, seed, batch_size, device
        run = Run(arm.method, seed, **asdict(arm.rates), rule="rowwise_adagrad")
        self.model, self.optimizers, self.every_epoch = build(run, schema, device)

    def train(self, log: Log, day: int, requests: Requests | None = None) -> Tensor | None:
        """Trains on yesterday's log; returns the logits that serve today's requests meanwhile.

        The logits are (n * k, n_objectives). Without requests, there are none.
        """
        parts = requests.candidates if requests else log[:0]
        size, logits = len(parts) // QUARTERS, []

        def serve() -> None:
            if requests:
                part = parts[len(logits) * size : (len(logits) + 1) * size].to(self.device)
                with self.every_epoch.serving():
                    logits.append(predict(self.model, part).cpu())

        half = -(-len(log) // self.batch_size) // 2
        train(
            self.model,
            self.optimizers,
            log,
            epochs=self.arm.epochs,
            evaluate_at=(),
            batch_size=self.batch_size,
            seed=1_000 * self.seed + day,
            between_epochs=ServeWhileTraining(self.every_epoch, half, serve),
            progress=None,
        )
        while requests and len(logits) < QUARTERS:  # nothing changes after the last epoch
            serve()
        return torch.cat(logits) if requests else None


def simulate(plan: Plan, profile: Profile, device: str, seed: int) -> pd.DataFrame:
    """Runs the plan in one world.

    Returns:
        Columns seed, feedback ("shared" or "own": whose logs an arm trains on), arm, day (of the
        test, from 1 on), quarter, metric, value; metrics as in `Requests`.
    """
    world = profile.world(seed)
    n = profile.impressions_per_day // QUARTERS * QUARTERS
    schema = world.schema(plan.before + plan.days)
    shared = replace(world.day(0), schema=schema)
    arms = {
        name: Trainee(ARMS[name], schema, seed, profile.batch_size, device) for name in plan.arms
    }
    own: dict[str, Trainee] = {}
    own_logs: dict[str, Log] = {}
    found: list[tuple] = []
    for day in range(1, plan.before + plan.days + 1):
        requests = Requests(world.candidates(day, n, CANDIDATES), schema)
        testing = day > plan.before
        if day == plan.before + 1:
            own = {name: copy.deepcopy(arms[name]) for name in plan.own}
            own_logs = dict.fromkeys(own, shared)
        served = {
            ("shared", name): one.train(shared, day, requests if testing or name == ONE else None)
            for name, one in arms.items()
        }
        served |= {
            ("own", name): one.train(own_logs[name], day, requests) for name, one in own.items()
        }
        choices, rows = {}, {}
        for key, logits in served.items():
            if logits is not None:
                q = logits[:, PAID].double().sigmoid().view_as(requests.p)
                choices[key] = requests.rank(q)
                rows[key] = list(requests.measure(choices[key], q))
        production = choices["shared", ONE]
        if testing:
            best, none = requests.rank(requests.p), torch.zeros_like(production)
            for name, choice in ((TRUTH, best), (RANDOM, none)):
                rows["shared", name] = list(requests.measure(choice, requests.p))
            for key in choices:
                rows[key] += requests.losses(served[key], production)
            found += [
                (seed, *key, day - plan.before, quarter, metric, value)
                for key, measured in rows.items()
                for metric, quarter, value in measured
            ]
        shared = requests.shown(production)
        own_logs = {name: requests.shown(choices["own", name]) for name in own}
    columns = ["seed", "feedback", "arm", "day", "quarter", "metric", "value"]
    return pd.DataFrame(found, columns=columns)
