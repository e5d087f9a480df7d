"""Leave-one-out rows: the kernels against the obvious loop, and what they promise."""

import copy
import io
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import multiprocessing, nn

from multiepoch.optim import (
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
    clip_grad_norm_,
    compiled,
)
from multiepoch_lab import passes, votes
from multiepoch_lab.leave_one_out import LeaveOneOutRows

N, USERS, ITEMS, DIM, LR, PADDING, LOOKUPS = 40, 8, 12, 3, 0.3, 0, 4


class Model(nn.Module):
    """Two features and a bag of items on one table, and users on another."""

    def __init__(self, mode="sum", offsets=False):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(USERS, DIM, sparse=True, padding_idx=PADDING)
        self.item = nn.Embedding(ITEMS, DIM, sparse=True)
        kind = dict(mode=mode, sparse=True, padding_idx=PADDING)
        self.history = nn.EmbeddingBag(ITEMS, DIM, _weight=self.item.weight.detach(), **kind)
        self.history.weight = self.item.weight
        self.head = nn.Linear(4 * DIM, 1)
        self.offsets, self.read = offsets, None

    def forward(self, user, item, last, history):
        if self.offsets:
            real = history != PADDING
            ends = real.sum(dim=1).cumsum(0)
            bags = self.history(history[real], offsets=ends - real.sum(dim=1))
        else:
            bags = self.history(history)
        self.read = torch.cat([self.user(user), self.item(item), self.item(last), bags], dim=1)
        return self.head(self.read.tanh())[:, 0]


def data(seed=0):
    """Ids of user, item and last item, (N,), and of the history, (N, LOOKUPS); labels; generator.

    Some impressions look one item up several times, in one module and in two.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n, *shape: (torch.rand(*shape, generator=generator) ** 2 * n).long()  # noqa: E731
    ids = draw(USERS, N), draw(ITEMS, N), draw(ITEMS, N), draw(ITEMS, N, LOOKUPS)
    return ids, (torch.rand(N, generator=generator) < 0.5).float(), generator


def build(model=None, below=6, dense=torch.optim.SGD, fused=None, **options):
    model = model or Model()
    optimizer = SparseOptimizer.from_model(model, 0.1, LR, dense=dense, fused=fused)
    options = {"lookups": {"item": 2, "history": LOOKUPS}} | options
    return model, optimizer, LeaveOneOutRows(model, optimizer, below, **options)


def loss_of(model, ids, labels, at):
    return F.binary_cross_entropy_with_logits(model(*(i[at] for i in ids)), labels[at])


def step(parts, ids, labels, at, records=None, scale=1.0, norm=math.inf, autocast=False):
    model, optimizer, rows = parts

    def closure():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = scale * loss_of(model, ids, labels, at)
        loss.backward()

    rows.backward(at if records is None else records, closure)
    clip_grad_norm_(model.parameters(), norm)
    optimizer.step()


def epochs(parts, n=3, seed=0, records=None):
    ids, labels, generator = data(seed)
    for index in range(n):
        parts[2].before_epoch(index)
        for at in torch.randperm(N, generator=generator).split(9):
            own = None if records is None else records[at]
            step(parts, ids, labels, at, own)
            if records is not None:
                records[at] = own
    return parts


def equal(one, other, **tolerance):
    for p, q in zip(one[0].parameters(), other[0].parameters()):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


class Loop:
    """The rule, one vote after another, in Python and float64, from what the rows remember.

    votes: by table, row and impression. A vote of 8 bits is rounded as its class is documented.
    """

    def __init__(self, tables, below, bits):
        self.tables = [t.detach().double().clone() for t in tables]
        self.votes = [{} for _ in tables]
        self.count = [[0] * len(t) for t in tables]
        self.square = [torch.zeros(t.shape[1]).double() for t in tables]
        self.below, self.bits, self.steps = below, bits, [0] * len(tables)

    def read(self, k, row, impression):
        return self.tables[k][row] - self.votes[k].get((row, impression), 0.0)

    def vote(self, k, gradients, lr):
        """gradients: by (row, impression), of an impression's loss."""
        before = list(self.count[k])
        for row, impression in gradients:
            again = before[row] < self.below and (row, impression) in self.votes[k]
            self.count[k][row] += not again
        self.steps[k] += 1
        found = torch.stack(list(gradients.values())).square().mean(dim=0)
        self.square[k] += (found - self.square[k]) / min(self.steps[k], 1000)
        for (row, impression), g in gradients.items():
            n, old = self.count[k][row], self.votes[k].pop((row, impression), None)
            weighs = 1 / math.sqrt(n + 4)
            if before[row] >= self.below:
                self.tables[k][row] -= lr * weighs * g / self.square[k].sqrt()
                continue
            if old is not None:
                weighs = 2 * (math.sqrt(n + 4) - 2) / n
            new = -lr * weighs * g / self.square[k].sqrt()
            if self.bits == 8:
                scale = (new.abs().max() / 127).float().bfloat16().double()
                new = (new / scale).round() * scale
            self.tables[k][row] += new - (0.0 if old is None else old)
            self.votes[k][row, impression] = new


needs_kernels = pytest.mark.skipif(compiled.library() is None, reason="no kernels were built")
WAYS = [pytest.param("compiled", marks=needs_kernels), "eager"]


@pytest.mark.parametrize("way", WAYS)
def test_500_random_cases_against_the_obvious_loop(way):
    """Float32 against float64: a vote at the edge of two multiples may round either way."""
    largest, most_edges = 0.0, 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        n, dim, n_rows = rng.integers(1, 30), rng.integers(1, 40), rng.integers(1, 25)
        bits, below = int(rng.choice([8, 32])), int(rng.choice([1, 4, 10**9]))
        generator = torch.Generator().manual_seed(seed)
        ids = torch.from_numpy(rng.integers(0, n_rows, n))
        table = torch.randn(n_rows, dim, generator=generator)
        loop, weight = Loop([table], below, bits), table.clone()
        voted = votes.VotedTable(weight, below, bits, torch.clone)
        size = voted.size
        records = torch.zeros(n, size + 3, dtype=torch.uint8)  # at odd places, too
        fused = way == "compiled"
        for _ in range(3):
            some = torch.from_numpy(rng.permutation(n)[: rng.integers(1, n + 1)])
            at = some * (size + 3) + 1
            read = weight[ids[some]]
            voted.leave_out(records, passes.Call(None, ids, at, None, None, read), fused)
            expected = torch.stack([loop.read(0, int(ids[j]), int(j)) for j in some])
            largest = max(largest, float((read - expected).abs().max()))
            gradient = torch.randn(len(some), dim, generator=generator)
            voted.vote(votes.Lookups(ids[some], at, gradient), records, 0.1, fused)
            pairs = zip(ids[some].tolist(), some.tolist())
            loop.vote(0, dict(zip(pairs, gradient.double())), 0.1)
            off = (weight - loop.tables[0]).abs()
            edges = (off > 1e-6).any(dim=1)
            most_edges += int(edges.sum())
            loop.tables[0][edges] = weight[edges].double()
            for row, impression in [key for key in loop.votes[0] if edges[key[0]]]:
                place = torch.tensor([impression * (size + 3) + 1])
                kept, _ = voted.read(records, place)
                loop.votes[0][row, impression] = kept[0].double()
            largest = max(largest, float(off[~edges].max()) if (~edges).any() else 0.0)
            assert loop.count[0] == voted.count.tolist()
    assert largest <= 1e-6
    assert most_edges <= 5


def by_row(model, ids, at, gradient):
    """The gradient of each table by (row, impression), from that of what was read, (n, 4 DIM)."""
    user, item, last, bag = gradient.split(DIM, dim=1)
    found = {}, {}
    for place, j in enumerate(at.tolist()):
        history = [r for r in ids[3][j].tolist() if r != PADDING]
        share = 1 / max(len(history), 1) if model.history.mode == "mean" else 1.0
        lookups = [(ids[1][j], item[place]), (ids[2][j], last[place])]
        lookups += [(r, share * bag[place]) for r in history]
        for row, g in lookups:
            found[1][int(row), j] = found[1].get((int(row), j), 0.0) + g
        if (row := int(ids[0][j])) != PADDING:
            found[0][row, j] = user[place]
    return found


def read_by_hand(loop, model, ids, j):
    def row(k, r):
        return loop.read(k, int(r), j)

    history = [row(1, r) for r in ids[3][j].tolist() if r != PADDING]
    total = sum(history, torch.zeros(DIM).double())
    bag = total / max(len(history), 1) if model.history.mode == "mean" else total
    return torch.cat([row(0, ids[0][j]), row(1, ids[1][j]), row(1, ids[2][j]), bag])


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_model_trains_as_by_hand(mode):
    """Padding, several features on one table, and one item several times in an impression."""
    model, optimizer, rows = build(Model(mode), bits=32)
    ids, labels, generator = data()
    loop = Loop([model.user.weight, model.item.weight], 6, 32)
    for index in range(3):
        rows.before_epoch(index)
        for at in torch.randperm(N, generator=generator).split(9):
            read = [read_by_hand(loop, model, ids, j) for j in at.tolist()]
            leaf = torch.stack(read).requires_grad_()
            head = nn.Linear(4 * DIM, 1).double()
            head.load_state_dict(model.head.state_dict())
            logits = head(leaf.tanh())[:, 0]
            losses = F.binary_cross_entropy_with_logits(
                logits, labels[at].double(), reduction="sum"
            )
            losses.backward()
            step((model, optimizer, rows), ids, labels, at)
            torch.testing.assert_close(model.read.double(), leaf, rtol=1e-5, atol=1e-5)
            for k, gradients in enumerate(by_row(model, ids, at, leaf.grad)):
                loop.vote(k, gradients, LR)
            for k, table in enumerate((model.user.weight, model.item.weight)):
                torch.testing.assert_close(table.double(), loop.tables[k], rtol=1e-5, atol=1e-5)
    assert min(loop.count[1]) < 6 < max(loop.count[1])


def test_what_an_impression_reads_does_not_depend_on_its_own_label():
    """Though it looks one item up in two features and several times in its history."""
    reads = []
    for label in (0.0, 1.0):
        parts = model, _, rows = build(below=math.inf)
        model.head.requires_grad_(False)
        ids = [torch.tensor(x) for x in ([1, 2], [3, 4], [3, 4], [[3, 3, 5, 5], [4, 6, 6, 7]])]
        labels, both = torch.tensor([label, 1.0]), torch.arange(2)
        for index in range(3):
            rows.before_epoch(index)
            step(parts, ids, labels, both)
        reads.append(model.read.detach())
        with torch.no_grad():
            model(*ids)
        reads.append(model.read.detach())
    # Both labels move the mean square of the table, so equal to the size of a vote and no further.
    assert torch.allclose(reads[0][0], reads[2][0], atol=1e-6), "in training"
    assert not torch.allclose(reads[1], reads[3], atol=1e-2), "in evaluation, the full rows"


@needs_kernels
def test_both_paths_train_alike():
    equal(epochs(build()), epochs(build(fused=False)), rtol=0, atol=1e-6)


class OneColumn(nn.Module):
    """A feature whose ids are a column of a matrix, so that they are not contiguous."""

    def __init__(self, strided):
        super().__init__()
        torch.manual_seed(0)
        self.item, self.head = nn.Embedding(ITEMS, DIM, sparse=True), nn.Linear(DIM, 1)
        self.strided = strided

    def forward(self, user, item, *_):
        ids = torch.stack([item, user], dim=1)[:, 0]
        return self.head(self.item(ids if self.strided else ids.contiguous()))[:, 0]


def test_ids_of_a_strided_column_are_read_in_their_order():
    options = {"lookups": {}}
    equal(*(epochs(build(OneColumn(strided), **options)) for strided in (True, False)))


def test_votes_are_the_same_in_memory_in_a_file_and_in_a_column(tmp_path):
    in_memory, in_file = epochs(build()), epochs(build(votes=tmp_path))
    equal(in_memory, in_file)
    column = build(votes="column")
    records = torch.zeros(N, column[2].width, dtype=torch.uint8)
    equal(in_memory, epochs(column, records=records))
    assert torch.equal(records, in_memory[2].state_dict()["votes"])
    counts = 4 * (USERS + ITEMS)
    assert in_file[2].n_bytes == column[2].n_bytes == counts
    assert in_memory[2].n_bytes == counts + N * column[2].width


def test_a_vote_takes_18_bytes_of_a_row_of_16():
    model = nn.Sequential(nn.Embedding(50, 16, sparse=True), nn.Linear(16, 1))
    rows = LeaveOneOutRows(model, SparseOptimizer.from_model(model, 0.1, 0.1))
    assert votes.VotedTable(model[0].weight, 1, 8, torch.clone).size == 18 and rows.width == 20


def test_bags_by_offsets_are_those_of_a_matrix():
    equal(epochs(build()), epochs(build(Model(offsets=True))), rtol=0, atol=1e-6)


def accumulated(n, epochs=2):
    """Trains on all impressions at once, in n passes."""
    model, optimizer, rows = build(bits=32)
    ids, labels, _ = data()
    for index in range(epochs):
        rows.before_epoch(index)
        optimizer.zero_grad()
        for at in torch.arange(N).chunk(n):
            rows.backward(at, lambda at=at: (loss_of(model, ids, labels, at) / n).backward())
        optimizer.step()
    return (model,)


def test_two_passes_accumulate_to_one_batch():
    equal(accumulated(1), accumulated(2), rtol=1e-5, atol=1e-6)


def learned(scale=1.0, norm=math.inf):
    """The items after an epoch whose first step clips, with the dense layers held fixed."""
    parts = build(below=math.inf)
    parts[0].head.requires_grad_(False)
    ids, labels, generator = data()
    for k, at in enumerate(torch.randperm(N, generator=generator).split(9)):
        step(parts, ids, labels, at, scale=scale, norm=math.inf if k else norm)
    return parts[0].item.weight.detach()


def test_the_scale_of_the_loss_changes_nothing_and_clipping_counts():
    torch.testing.assert_close(learned(), learned(scale=1000.0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(learned(), learned(norm=1e-3), atol=1e-2)


def test_a_step_that_a_scaler_skips_leaves_no_vote():
    parts = model, _, rows = build()
    ids, labels, _ = data()
    before = model.item.weight.detach().clone()
    rows.backward(torch.arange(9), lambda: loss_of(model, ids, labels, torch.arange(9)).backward())
    step(parts, ids, labels, torch.arange(9, 18))  # its closure clears the gradients
    votes = rows.state_dict()["votes"]
    assert not votes[:9].any() and votes[9:18].any(dim=1).all()
    assert not torch.equal(model.item.weight, before)


def test_under_autocast_rows_stay_float32():
    exact, parts = epochs(build(), n=1), build()
    ids, labels, generator = data()
    for at in torch.randperm(N, generator=generator).split(9):
        step(parts, ids, labels, at, autocast=True)
    assert parts[0].read.dtype == torch.float32
    torch.testing.assert_close(parts[0].item.weight, exact[0].item.weight, rtol=0, atol=0.05)


def test_new_data_keep_what_was_voted_and_forget_by_whom():
    parts = epochs(build(), n=2)
    ids, labels, _ = data()
    learned = parts[0].item.weight.detach().clone()
    parts[2].before_epoch(0)
    step(parts, ids, labels, torch.arange(N))
    torch.testing.assert_close(parts[0].read[:, DIM : 2 * DIM], learned[ids[1]])


def test_a_table_may_grow():
    parts = model, optimizer, rows = epochs(build(), n=1)
    optimizer.grow_table("item.weight", 3)
    ids, labels, _ = data()
    ids = [i.clone() for i in ids]
    ids[1][:9] = ITEMS + 1
    before = model.item.weight.detach().clone()
    step(parts, ids, labels, torch.arange(9))
    assert not torch.equal(model.item.weight[ITEMS + 1], before[ITEMS + 1])
    assert len(rows.state_dict()["tables"][1]["count"]) == ITEMS + 3


@pytest.mark.parametrize("place", ["memory", "file", "column"])
def test_a_run_is_saved_and_resumed_within_an_epoch_bit_for_bit(place, tmp_path):
    make = partial(build, votes=tmp_path if place == "file" else place, dense=torch.optim.Adam)
    ids, labels, _ = data()
    found = []
    for cut in (None, 7):
        parts = make()
        records = torch.zeros(N, parts[2].width, dtype=torch.uint8) if place == "column" else None
        generator, done = torch.Generator().manual_seed(0), 0
        for index in range(3):
            parts[2].before_epoch(index)
            for at in torch.randperm(N, generator=generator).split(9):
                own = None if records is None else records[at]
                step(parts, ids, labels, at, own)
                if records is not None:
                    records[at] = own
                done += 1
                if done == cut:
                    file = io.BytesIO()
                    torch.save([part.state_dict() for part in parts], file)
                    step(parts, ids, labels, torch.arange(9), own)  # goes on, in vain
                    file.seek(0)
                    parts = make()
                    for part, state in zip(parts, torch.load(file, weights_only=True)):
                        part.load_state_dict(state)
        found.append(parts)
    equal(*found)


def test_closed_it_leaves_model_and_optimizer_as_they_were():
    model, optimizer, rows = build()
    rows.close()
    ids, labels, _ = data()
    loss_of(model, ids, labels, torch.arange(N)).backward()
    assert model.item.weight.grad.is_sparse
    before = model.item.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model.item.weight)


def halves(seed=0):
    """For three epochs: batches of even impressions, and of as many odd ones."""
    generator = torch.Generator().manual_seed(seed)
    for index in range(3):
        batches = [torch.randperm(N // 2, generator=generator).split(5) for _ in range(2)]
        yield index, [(2 * even, 2 * odd + 1) for even, odd in zip(*batches)]


def one_of_two(rank, folder):
    """Trains on the even or the odd impressions of each batch."""
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = Model()
    if rank == 1:
        nn.init.zeros_(model.item.weight)  # process 0's values count
    parts = build(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    ids, labels, _ = data()
    for index, batches in halves():
        parts[2].before_epoch(index)
        for both in batches:
            step((parallel, *parts[1:]), ids, labels, both[rank])
    torch.save([p.detach() for p in model.parameters()], folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    zero, one = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(map(torch.equal, zero, one))
    parts = build()
    ids, labels, _ = data()
    for index, batches in halves():
        parts[2].before_epoch(index)
        for both in batches:
            step(parts, ids, labels, torch.cat(both))
    for ours, theirs in zip(zero, parts[0].parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def bad(model=None, optimizer=None, **options):
    model = model or Model()
    optimizer = optimizer or EmbeddingOptimizer([model.user.weight, model.item.weight], LR)
    return LeaveOneOutRows(model, optimizer, **options)


def test_what_it_cannot_take_is_refused_in_a_sentence():
    tied = Model()
    tied.head.weight = tied.item.weight
    dense = nn.Embedding(4, 2, dtype=torch.float64, sparse=True)
    most = nn.EmbeddingBag(4, 2, mode="max")
    for make, sentence in (
        (lambda: bad(bits=4), "bits=4 must be 8 or 32"),
        (lambda: bad(below=math.nan), "below=nan must be a number of votes"),
        (lambda: bad(votes="disk"), 'votes=\'disk\' must be "memory", "column" or the Path'),
        (lambda: bad(lookups={"items": 2}), "lookups has ['items'], and the modules are user, "),
        (lambda: bad(lookups={"item": 0}), "lookups['item']=0 must be a whole number"),
        (lambda: bad(tied), "is the weight of Embedding, EmbeddingBag, Linear: it must be that of"),
        (lambda: bad(dense, EmbeddingOptimizer(dense.parameters(), LR)), "is torch.float64"),
        (lambda: bad(most, EmbeddingOptimizer(most.parameters(), LR)), "mode='max'"),
    ):
        with pytest.raises(ValueError) as error:
            make()
        assert sentence in str(error.value)
    model = Model()
    tables = [model.user.weight, model.item.weight]
    for options in ({"row_lr": FrequencyAdaptiveLR()}, {"weight_decay": 0.1}):
        with pytest.raises(ValueError, match="a rule of its own: build the tables' optimizer with"):
            bad(model, EmbeddingOptimizer(tables, LR, **options))


def test_a_batch_that_it_cannot_take_is_refused_in_a_sentence(tmp_path):
    ids, labels, _ = data()
    for impressions, sentence in (
        (torch.tensor([1, 1]), "must be distinct, and none negative"),
        (torch.tensor([-1, 1]), "must be distinct, and none negative"),
        (torch.tensor([0.0, 1.0]), "impressions are int64 (n,), not torch.float32 (2,)"),
    ):
        with pytest.raises(ValueError) as error:
            build()[2].backward(impressions, lambda: None)
        assert sentence in str(error.value)
    for votes_in in ("memory", tmp_path):
        parts = build(votes=votes_in)
        with pytest.raises(ValueError, match=r"no room for the votes of .*number them from 0 on"):
            parts[2].backward(torch.arange(9) + 2**60, lambda: None)
        step(parts, ids, labels, torch.arange(9))
        assert len(parts[2].state_dict()["votes"]) == 9
    with pytest.raises(ValueError, match=r"records of votes are uint8 \(n, 36\), not torch.int64"):
        build(votes="column")[2].backward(torch.arange(2), lambda: None)
    with pytest.raises(ValueError, match=r"item looks up 2 ids of .*: give lookups=\{'item': 2\}"):
        step(build(lookups={"history": LOOKUPS}), ids, labels, torch.arange(9))
    with pytest.raises(ValueError, match="needs those of the 8 of the batch"):
        model, _, rows = build()
        rows.backward(torch.arange(8), lambda: loss_of(model, ids, labels, torch.arange(9)))
    with pytest.raises(RuntimeError, match="do not coalesce it between backward and step"):
        model, optimizer, rows = build()
        at = torch.arange(9)
        rows.backward(at, lambda: loss_of(model, ids, labels, at).backward())
        model.item.weight.grad = model.item.weight.grad.coalesce()
        before = model.user.weight.detach().clone()
        with pytest.raises(RuntimeError, match="do not coalesce it"):
            optimizer.step()
        assert torch.equal(model.user.weight, before), "a table before it has changed"
        optimizer.step()  # is refused again, and does not go by the optimizer's own rule
    with pytest.raises(ValueError, match="and none to step"):
        model, optimizer, rows = build()
        optimizer.embedding.step(lambda: None)


def test_a_state_of_other_arguments_or_tables_is_refused():
    state = build()[2].state_dict()
    with pytest.raises(ValueError, match="bits=8, these have 32: create it with the saved"):
        build(bits=32)[2].load_state_dict(state)
    _, optimizer, rows = build()
    optimizer.grow_table("item.weight", 3)
    with pytest.raises(ValueError, match=r"of shapes .*\(12, 3\)\], these have .*\(15, 3\)\]"):
        rows.load_state_dict(state)
    rows, state = epochs(build(), 1)[2], epochs(build(), 1)[2].state_dict()
    with pytest.raises(ValueError, match=r"of shape \(40, 4\), and those here have 36 bytes"):
        rows.load_state_dict(state | {"votes": state["votes"][:, :4]})
    state["tables"][0]["mean_square"] = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"of shapes \[\(8, 1\), "):
        rows.load_state_dict(state)


def test_a_copy_is_refused_since_its_hooks_would_be_those_of_the_original():
    parts = build()
    for make in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="build one for the copy of the model"):
            make(parts[2])


def test_gradients_from_before_a_state_was_loaded_do_not_vote():
    model, optimizer, rows = epochs(build(), n=1)
    ids, labels, _ = data()
    state = rows.state_dict()
    for at in torch.arange(18).split(9):
        rows.backward(at, lambda at=at: loss_of(model, ids, labels, at).backward())
        rows.load_state_dict(state)
    rows.backward(at, lambda: loss_of(model, ids, labels, at).backward())
    with pytest.raises(RuntimeError, match="no longer lists the lookups of the batch"):
        optimizer.step()


def test_lookups_that_no_hook_has_seen_are_refused_before_anything_changes():
    model, optimizer, rows = build()
    before = [p.detach().clone() for p in model.parameters()]

    def bypassing():
        optimizer.zero_grad()
        read = F.embedding(torch.arange(4), model.user.weight, sparse=True)
        (read.sum() + model.item(torch.arange(4)).sum()).backward()

    for _ in range(2):
        rows.backward(torch.arange(4), bypassing)
        with pytest.raises(RuntimeError, match="table 0 has a gradient of no lookup that was seen"):
            optimizer.step()
    assert all(map(torch.equal, model.parameters(), before))


def test_a_model_can_be_copied_while_its_rows_leave_out():
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 1))
    LeaveOneOutRows(model, SparseOptimizer.from_model(model, 0.1, 0.1))
    ids = torch.arange(9)
    assert torch.equal(copy.deepcopy(model)(ids), model(ids))
    average = torch.optim.swa_utils.AveragedModel(model)
    assert torch.equal(average(ids), model(ids))


def test_the_lookups_of_a_bare_module_have_its_name():
    bag = nn.EmbeddingBag(10, 4, sparse=True, mode="sum")
    rows = LeaveOneOutRows(bag, EmbeddingOptimizer([bag.weight], 0.1), lookups={"": 3})
    assert rows.state_dict()["lookups"] == {"": 3}
