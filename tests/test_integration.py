"""The optimizers in the world around them: bags, dtypes, autocast, accumulation, DDP."""

import copy
import inspect
import pickle
from functools import cache, partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from multiepoch.optim import (
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
    clip_grad_norm_,
)
from multiepoch.optim.lookups import accumulate_lookups, gather_lookups
from multiepoch.remedies import tail_rewind

RULES = ("adam", "adagrad", "rowwise_adagrad", "sgd")
N_USERS, N_WORDS = 40, 60


class Model(nn.Module):
    """A table of users that two features share, a bag of words of another width, a tower."""

    def __init__(self, mode="mean", dtype=torch.float32, share=True):
        super().__init__()
        torch.manual_seed(0)
        self.viewer = nn.Embedding(N_USERS, 4, sparse=True, dtype=dtype)
        self.author = nn.Embedding(N_USERS, 4, sparse=True, dtype=dtype)
        if share:
            self.author.weight = self.viewer.weight
        self.words = nn.EmbeddingBag(N_WORDS, 7, sparse=True, mode=mode, dtype=dtype)
        self.tower = nn.Sequential(nn.Linear(15, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, viewer, author, words):
        """viewer, author: (n,); words: (n, 3). Logits, (n,)."""
        x = [self.viewer(viewer), self.author(author), self.words(words)]
        return self.tower(torch.cat(x, dim=1).to(self.tower[0].weight.dtype)).squeeze(1)


def batch(seed, n=32):
    """Three id inputs and a label; skewed ids, so that rows repeat."""
    generator = torch.Generator().manual_seed(seed)
    skewed = lambda *shape: torch.rand(*shape, generator=generator) ** 2  # noqa: E731
    return (
        (skewed(n) * N_USERS).long(),
        (skewed(n) * N_USERS).long(),
        (skewed(n, 3) * N_WORDS).long(),
        (skewed(n) < 0.3).float(),
    )


def loss_of(model, batch):
    *inputs, label = batch
    return binary_cross_entropy_with_logits(model(*inputs).float(), label)


def pair(model, rule="adam", row_lr=None):
    return SparseOptimizer.from_model(model, 1e-2, 5e-2, rule=rule, row_lr=row_lr)


def assert_close(model, other, atol):
    for (name, a), b in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_bag_is_trained_as_the_lookups_it_stands_for(mode, rule):
    """EmbeddingBag(mode) against an Embedding whose rows are summed or averaged by hand."""

    class Bag(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.table = nn.Embedding(*weight.shape, sparse=True, _weight=weight.clone())

        def forward(self, ids):
            return getattr(self.table(ids), mode)(dim=1)

    bags, by_hand = Model(mode), Model(mode)
    by_hand.words = Bag(by_hand.words.weight.detach())
    for model in (bags, by_hand):
        optimizer = pair(model, rule, FrequencyAdaptiveLR())
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, batch(step)).backward()
            optimizer.step()
    assert_close(bags, by_hand, 1e-6)


def test_bags_with_offsets_and_weights_per_lookup():
    torch.manual_seed(0)
    table = nn.EmbeddingBag(10, 3, sparse=True, mode="sum")
    before = table.weight.detach().clone()
    ids, offsets = torch.tensor([1, 2, 1, 7]), torch.tensor([0, 2])
    per_lookup = torch.tensor([1.0, 2.0, 3.0, 0.5])
    table(ids, offsets, per_sample_weights=per_lookup).sum().backward()
    EmbeddingOptimizer([table.weight], lr=0.1, rule="sgd").step()
    moved = torch.zeros(10, 1).index_add_(0, ids, per_lookup[:, None])
    torch.testing.assert_close(table.weight.detach(), before - 0.1 * moved)


def one_big_batch_and_four_small(rule, row_lr):
    """The two models, and the counts of words that FAL has if there is any."""
    models = Model(), Model()
    optimizers = [pair(model, rule, row_lr) for model in models]
    for step in range(4):
        for optimizer, model, n_parts in zip(optimizers, models, (1, 4)):
            optimizer.zero_grad()
            for part in zip(*(column.chunk(n_parts) for column in batch(step))):
                (loss_of(model, part) / n_parts).backward()
            optimizer.step()
    return *models, [
        optimizer.embedding.state[model.words.weight]["count"]
        for optimizer, model in zip(optimizers, models)
    ]


@pytest.mark.parametrize("rule", RULES)
def test_several_backward_passes_count_as_one_big_batch(rule):
    big, small, counts = one_big_batch_and_four_small(rule, FrequencyAdaptiveLR())
    assert torch.equal(*counts)
    assert counts[0].sum() == 4 * 32 * 3
    assert_close(big, small, 1e-5)


class Small(nn.Module):
    """Two tables with fewer weights than a batch has lookups; two features share the first."""

    def __init__(self, n_rows=5, kind=nn.Embedding):
        super().__init__()
        torch.manual_seed(0)
        self.viewer = kind(n_rows, 2, sparse=True)
        self.words = nn.EmbeddingBag(n_rows, 2, sparse=True, mode="sum")
        self.words.weight = self.viewer.weight
        self.tag = nn.Embedding(n_rows, 2, sparse=True)
        self.tower = nn.Linear(2, 1)

    def forward(self, ids):
        """ids: (n, 5). The module `viewer` is called twice."""
        rows = self.viewer(ids[:, 0]) + self.viewer(ids[:, 1]) + self.words(ids[:, 2:4])
        return self.tower(rows + self.tag(ids[:, 4]))


class Scaled(nn.Embedding):
    """As in a transformer, whose embeddings are multiplied by the root of their width."""

    def forward(self, ids):
        return (1.5 * super().forward(ids)).tanh()


def a_copy(model, optimizer):
    return pickle.loads(pickle.dumps((model, optimizer)))


def by_name(model, optimizer):
    tables = [(n, p) for n, p in model.named_parameters() if "tower" not in n]
    embedding = EmbeddingOptimizer(tables, 0.1, row_lr=FrequencyAdaptiveLR())
    accumulate_lookups(embedding, model)
    return model, SparseOptimizer(optimizer.dense, embedding, model)


@pytest.mark.parametrize("n_rows", [3, 5, 500])
@pytest.mark.parametrize("change", [a_copy, by_name, lambda *both: both])
@pytest.mark.parametrize("n_parts", [1, 4])
@pytest.mark.parametrize("kind", [nn.Embedding, Scaled])
def test_no_lookup_is_lost_however_small_the_table(n_parts, change, n_rows, kind):
    model = Small(n_rows, kind)
    model, optimizer = change(model, pair(model, row_lr=FrequencyAdaptiveLR()))
    plain = copy.deepcopy(model)  # has the modules' hooks, but not those of the tables
    ids = torch.randint(n_rows, (400, 5))
    for _ in range(2):  # two steps, so that nothing is left over from the first
        optimizer.zero_grad()
        plain.zero_grad()
        for part in ids.chunk(n_parts):
            model(part).square().sum().backward()
        plain.load_state_dict(model.state_dict())
        plain(ids).square().sum().backward()
        for p, its in zip(model.parameters(), plain.parameters()):
            torch.testing.assert_close(p.grad.to_dense(), its.grad.to_dense(), rtol=1e-4, atol=1e-3)
        optimizer.step()
    for table, columns in ((model.viewer, ids[:, :4]), (model.tag, ids[:, 4])):
        expected = 2 * torch.bincount(columns.flatten(), minlength=n_rows)
        assert torch.equal(optimizer.embedding.state[table.weight]["count"].long(), expected)


def test_a_count_that_is_switched_on_needs_the_lookups():
    model = Small(3)
    optimizer = pair(model)
    for group in optimizer.embedding.param_groups:
        group["row_lr"] = FrequencyAdaptiveLR()
    ids = torch.randint(3, (400, 5))
    model(ids).square().sum().backward()
    with pytest.raises(RuntimeError, match=r"call accumulate_lookups\(optimizer\) after"):
        optimizer.step()
    accumulate_lookups(optimizer)
    optimizer.zero_grad()
    model(ids).square().sum().backward()
    optimizer.step()
    assert optimizer.state[model.viewer.weight]["count"].sum() == 4 * 400


@pytest.mark.parametrize("of_pair", [True, False])
def test_tail_rewind_counts_every_lookup_of_a_shared_table(of_pair):
    model, seen = Small(3), []
    optimizer = pair(model)
    tail_rewind(model, optimizer if of_pair else optimizer.embedding, TAU).before_epoch(0)
    optimizer.embedding.register_row_hook(lambda *hooked: seen.append(int(hooked[2].sum())))
    model(torch.randint(3, (400, 5))).square().sum().backward()
    optimizer.step()
    assert seen == [4 * 400, 400]


@pytest.mark.parametrize("before", [True, False])
def test_a_backward_pass_that_raises_midway_leaves_nothing_behind(before):
    """Caught, such as when memory runs out, and followed by another batch.

    before: The next batch's forward pass ran before the one that raised.
    """

    def out_of_memory(_):
        raise MemoryError

    model = Small(500)
    optimizer = pair(model, row_lr=FrequencyAdaptiveLR())
    loss = model(torch.full((4, 5), 1)).sum() if before else None
    rows = model.viewer(torch.tensor([8, 9]))  # its gradient comes after that of the words
    rows.register_hook(out_of_memory)
    failing = (rows + model.words(torch.tensor([[6, 7], [6, 7]]))).sum()
    with pytest.raises(MemoryError):
        failing.backward()
    optimizer.zero_grad()
    before_step = model.viewer.weight.detach().clone()
    (model(torch.full((4, 5), 1)).sum() if loss is None else loss).backward()
    optimizer.step()
    changed = (model.viewer.weight != before_step).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1]
    assert optimizer.embedding.state[model.viewer.weight]["count"].sum() == 16


def test_a_backward_pass_within_another_keeps_the_features_of_both():
    """As a checkpoint with use_reentrant=True makes: it looks up and runs backward inside."""
    model = Small(500)
    optimizer = pair(model, row_lr=FrequencyAdaptiveLR())
    ids, more = torch.tensor([1, 2, 2]), torch.tensor([3, 3, 4])
    looked_up_again = torch.utils.checkpoint.checkpoint(
        lambda scale: model.viewer(more) * scale,
        torch.ones(1, requires_grad=True),
        use_reentrant=True,
    )
    (looked_up_again + model.viewer(ids)).sum().backward()
    expected = torch.bincount(torch.cat([ids, more]), minlength=500)
    torch.testing.assert_close(model.viewer.weight.grad.to_dense()[:, 0].long(), expected)
    optimizer.step()
    assert torch.equal(optimizer.embedding.state[model.viewer.weight]["count"].long(), expected)


def test_the_gradient_of_autograd_grad_is_whole_and_leaves_no_trace():
    model = Small()
    optimizer = pair(model, row_lr=FrequencyAdaptiveLR())
    ids = torch.randint(5, (400, 5))
    model(ids).sum().backward()
    (whole,) = torch.autograd.grad(model(ids).sum(), model.viewer.weight)
    torch.testing.assert_close(whole.to_dense(), model.viewer.weight.grad.to_dense())
    optimizer.step()
    assert optimizer.embedding.state[model.viewer.weight]["count"].sum() == 400 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_trains_tables_of_either_dtype(dtype):
    # torch on CPU cannot add two bfloat16 sparse gradients, so such a table has one feature.
    model = Model(dtype=dtype, share=dtype == torch.float32)
    optimizer = pair(model, row_lr=FrequencyAdaptiveLR())
    data = batch(0, n=256)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert model.words.weight.dtype == dtype
    state = optimizer.embedding.row_state(model.words.weight)
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("largest", [None, 0.01])
@pytest.mark.parametrize("rule", RULES)
def test_a_gradient_scaler_changes_nothing(rule, largest):
    """It unscales sparse gradients (pytorch#35810), and keeps every lookup for FAL's counts."""
    models = Model(), Model()
    optimizers = [pair(model, rule, FrequencyAdaptiveLR()) for model in models]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    for step in range(5):
        for model, optimizer, scales in zip(models, optimizers, (False, True)):
            optimizer.zero_grad()
            loss = loss_of(model, batch(step))
            (scaler.scale(loss) if scales else loss).backward()
            if largest is not None:
                if scales:
                    scaler.unscale_(optimizer)
                clip_grad_norm_(model.parameters(), largest)
            scaler.step(optimizer) if scales else optimizer.step()
        scaler.update()
    assert scaler.get_scale() == 2.0**12
    assert_close(*models, 1e-6)
    for one, other in zip(*(counts_of(*pair) for pair in zip(models, optimizers))):
        assert torch.equal(one, other)


def test_a_gradient_scaler_skips_a_step_that_overflows():
    model = Model()
    optimizer = pair(model, row_lr=FrequencyAdaptiveLR())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = copy.deepcopy(model.state_dict())
    (scaler.scale(loss_of(model, batch(0))) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimizer.embedding.state[model.words.weight]


@pytest.mark.filterwarnings("ignore")  # of torch, about what it does not trace
def test_a_training_step_may_be_compiled_as_a_whole():
    models = Model(), Model()
    for model, wrap in zip(models, (partial(torch.compile, backend="eager"), lambda step: step)):
        optimizer = pair(model, row_lr=FrequencyAdaptiveLR())

        def step(one, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss_of(model, one).backward()
            optimizer.step()

        compiled = wrap(step)
        for seed in range(2):
            compiled(batch(seed))
    assert_close(*models, 1e-6)  # torch's Adam differs a little if it is compiled


def test_a_frozen_table_and_a_table_without_a_batch_stand_still():
    model = Model()
    optimizer = pair(model)
    model.words.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    loss_of(model, batch(0)).backward()
    optimizer.step()
    assert torch.equal(model.words.weight, before["words.weight"])
    assert not torch.equal(model.viewer.weight, before["viewer.weight"])


# ---- Two processes -----------------------------------------------------------------------------

N_STEPS, TAU = 3, 6
SETTINGS = {  # name: rule, FAL or not, the communication hook or not
    "adam, as torch sends it": ("adam", False, False),
    "adagrad, as torch sends it": ("rowwise_adagrad", False, False),
    "FAL of steps, as torch sends it": ("adam", "steps", False),
    "FAL of occurrences, lookups kept": ("adam", "occurrences", True),
}


def train(model, setting, batches, wrap=lambda model: model):
    """Two epochs, the tail put back between them; (model, optimizer)."""
    rule, count, hook = SETTINGS[setting]
    row_lr = FrequencyAdaptiveLR(count=count) if count else None
    wrapped = wrap(model)
    if hook and wrapped is not model:
        wrapped.register_comm_hook(None, gather_lookups)
    optimizer = pair(wrapped, rule, row_lr)
    # Without the hook, lookups cannot be counted.
    rewind = tail_rewind(wrapped, optimizer, TAU if hook else 0)
    for index in range(2):
        rewind.before_epoch(index)
        for data in batches:
            optimizer.zero_grad()
            loss_of(wrapped, data).backward()
            optimizer.step()
    return model, optimizer


def counts_of(model, optimizer):
    tables = model.words.weight, model.viewer.weight
    return [optimizer.embedding.state[table].get("count") for table in tables]


class Parts(nn.Module):
    """Tables and a tower, each a module of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.Sequential(nn.Embedding(20, 4, sparse=True))
        self.tower = nn.Linear(4, 1)

    def forward(self, ids):
        return self.tower(self.tables(ids)).squeeze(1)


def train_in_parts(batches, wrap=lambda model: model):
    """Returns the weights and FAL's counts."""
    model = Parts()
    wrap(model)
    optimizer = SparseOptimizer.from_model(model, 0.01, 0.1, row_lr=FrequencyAdaptiveLR())
    for ids in batches:
        optimizer.zero_grad()
        (model(ids) - 1).square().mean().backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    (table,) = optimizer.embedding.param_groups[0]["params"]
    weights = [
        p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()
    ]
    return weights, optimizer.embedding.state[table]["count"]


@cache
def fully_shard():
    """FSDP2, whose import takes a second, or None if this torch's ignores no parameter."""
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        return None
    return fully_shard if "ignored_params" in inspect.signature(fully_shard).parameters else None


def sharded(model):
    """As the page advises: FSDP2 for the tower, DistributedDataParallel for the tables."""
    model.tables = DistributedDataParallel(model.tables)
    model.tables.register_comm_hook(None, gather_lookups)
    mesh = dist.init_device_mesh("cpu", (2,))
    fully_shard()(model, mesh=mesh, ignored_params=set(model.tables.parameters()))


PARTS = [torch.randint(20, (8,), generator=torch.Generator().manual_seed(k)) for k in range(4)]


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    if fully_shard():
        results["FSDP2"] = train_in_parts([ids[rank::2] for ids in PARTS], sharded)
    for setting in SETTINGS:
        halves = [tuple(column.chunk(2)[rank] for column in batch(s)) for s in range(N_STEPS)]
        model, optimizer = train(Model(), setting, halves, wrap=DistributedDataParallel)
        results[setting] = (model.state_dict(), counts_of(model, optimizer))
    for count, below in (("occurrences", 0), ("steps", TAU)):
        wrapped = DistributedDataParallel(Model())
        optimizer = pair(wrapped, row_lr=FrequencyAdaptiveLR(count=count))
        tail_rewind(wrapped, optimizer, below).before_epoch(0)
        loss_of(wrapped, halves[0]).backward()
        try:
            optimizer.step()
        except RuntimeError as error:
            results[below] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    torch.multiprocessing.spawn(one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
@pytest.mark.parametrize("setting", SETTINGS)
def test_two_processes_do_what_one_does_with_both_batches(two_processes, setting):
    model, optimizer = train(Model(), setting, [batch(s) for s in range(N_STEPS)])
    before = Model().state_dict()
    for weights, counts in (results[setting] for results in two_processes):
        for name, value in model.state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-5)
            assert not torch.equal(value, before[name])
        for count, expected in zip(counts, counts_of(model, optimizer)):
            assert count is expected is None or torch.equal(count, expected)


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
@pytest.mark.parametrize("below", [0, TAU])
def test_lookups_that_torch_has_summed_over_processes_are_refused(two_processes, below):
    for results in two_processes:
        assert "give DistributedDataParallel the hook gather_lookups" in results[below]


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_fsdp2_shards_the_dense_layers_beside_the_tables(two_processes):
    if fully_shard() is None:
        pytest.skip("this torch's fully_shard ignores no parameter")
    expected, expected_counts = train_in_parts(PARTS)
    for weights, counts in (results["FSDP2"] for results in two_processes):
        assert torch.equal(counts, expected_counts)
        for value, its in zip(weights, expected):
            torch.testing.assert_close(value, its.detach(), rtol=0, atol=1e-6)
