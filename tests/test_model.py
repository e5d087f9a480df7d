import pytest
import torch

from multiepoch.optim.memory import use_huge_pages
from multiepoch_lab.data import Schema
from multiepoch_lab.model import AdditiveModel, ConversionModel
from multiepoch_lab.train import metrics

SCHEMA = Schema({"user": 60, "product": 40}, ("x0", "x1"), ("click", "checkout"))


def test_logits_have_one_column_an_objective_and_gradients_are_sparse(tiny_log):
    log, model = tiny_log(n=50), ConversionModel(SCHEMA)
    logits = model(log.ids, log.dense)
    assert logits.shape == (50, 2)
    model.loss(logits, log.labels).backward()
    for name, weight in model.table_parameters().items():
        touched = weight.grad.coalesce().indices()[0]
        assert touched.tolist() == log.ids[name].unique().tolist()
    assert all(p.grad is not None and not p.grad.is_sparse for p in model.dense_parameters())


def test_parameters_fall_into_tables_and_the_rest():
    model = ConversionModel(SCHEMA)
    parts = [*model.table_parameters().values(), *model.dense_parameters()]
    assert {id(p) for p in parts} == {id(p) for p in model.parameters()}
    assert len(parts) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "sizes",
    [
        dict(cross_layers=0),
        dict(cross_layers=3),
        dict(hidden=()),
        dict(tower=()),
        dict(hidden=(), tower=(), cross_layers=0),
        dict(embedding_dim=1, n_buckets=1),
    ],
    ids=str,
)
def test_any_size_gives_logits(tiny_log, sizes):
    log = tiny_log(n=8)
    assert ConversionModel(SCHEMA, **sizes)(log.ids, log.dense).shape == (8, 2)


def test_without_dense_features_and_without_tables(tiny_log):
    no_dense, no_tables = tiny_log(n=8, n_dense=0), tiny_log(n=8)
    model = ConversionModel(no_dense.schema)
    assert model(no_dense.ids, no_dense.dense).shape == (8, 2)
    model = ConversionModel(Schema({}, ("x0", "x1"), ("click",)))
    assert model({}, no_tables.dense).shape == (8, 1)


def test_cross_layer_is_that_of_dcn_v2(tiny_log):
    """With bottom and towers away, logit = w . (x0 * (W x0 + b) + x0) + c."""
    log = tiny_log(n=5, objectives=("click",))
    model = ConversionModel(log.schema, hidden=(), tower=(), embedding_std=1.0)
    x0 = torch.cat([*(model.tables[c].weight[log.ids[c]] for c in log.ids), log.dense], dim=1)
    cross, last = model.cross[0], model.towers["click"][-1]
    crossed = torch.stack([x * (cross.weight @ x + cross.bias) + x for x in x0])
    expected = crossed @ last.weight[0] + last.bias
    torch.testing.assert_close(model(log.ids, log.dense)[:, 0], expected)


def test_ids_beyond_the_table_share_buckets():
    model = ConversionModel(SCHEMA, n_buckets=16)
    known = torch.arange(60)
    beyond = torch.tensor([60, 61, 10**12, 2**63 - 1, -1])
    rows = model.rows({"user": torch.cat([known, beyond]), "product": torch.zeros(65).long()})
    assert rows["user"][:60].equal(known)
    assert rows["user"][60:].min() >= 60 and rows["user"][60:].max() < 76
    assert rows["user"][60:].equal(model.rows({"user": beyond, "product": beyond * 0})["user"])


def test_buckets_are_filled_evenly():
    model = ConversionModel(SCHEMA, n_buckets=16)
    new = torch.arange(60, 60 + 16_000)
    rows = model.rows({"user": new, "product": torch.zeros_like(new)})["user"]
    filled = torch.bincount(rows - 60, minlength=16)
    assert filled.min() > 900 and filled.max() < 1100


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="n_buckets is 0"):
        ConversionModel(SCHEMA, n_buckets=0)


def test_losses_are_the_metric_and_the_loss_their_sum(tiny_log):
    log, model = tiny_log(), ConversionModel(SCHEMA)
    logits = model(log.ids, log.dense)
    losses = model.losses(logits, log.labels)
    for k in range(2):
        expected = metrics.logloss(logits[:, k].detach(), log.labels[:, k])
        assert losses[k].item() == pytest.approx(expected, abs=1e-6)
    assert model.loss(logits, log.labels).item() == pytest.approx(losses.sum().item())


def test_table_initialiser_draws_in_place_and_repeats_with_a_generator():
    model = ConversionModel(SCHEMA, embedding_std=0.3)
    part = torch.zeros(20_000, 4)
    assert model.init_table_(part, torch.Generator().manual_seed(1)) is part
    assert part.std().item() == pytest.approx(0.3, rel=0.02)
    again = model.init_table_(torch.zeros(20_000, 4), torch.Generator().manual_seed(1))
    assert again.equal(part)
    weight = model.table_parameters()["user"]
    assert model.init_table_(weight) is weight and weight.requires_grad


def test_tables_in_huge_pages_hold_the_same_first_weights():
    schema = Schema({"user": 40_000}, (), ("click",))  # 2.5 MB, more than one huge page
    torch.manual_seed(3)
    table = ConversionModel(schema, n_buckets=1).tables["user"].weight
    torch.manual_seed(3)
    expected = torch.nn.Embedding(40_001, 16).weight.detach().normal_(0.0, 0.01)
    assert torch.equal(table, expected)
    assert table.is_contiguous() and table.requires_grad and table.is_leaf


@pytest.mark.parametrize("n", [0, 1, 2**19 - 1, 2**19, 2**20 + 3])
def test_use_huge_pages_returns_the_tensor_as_it_is(n):
    fresh = torch.empty(n)
    assert use_huge_pages(fresh) is fresh
    assert torch.equal(fresh.fill_(2.0), torch.full((n,), 2.0))
    assert use_huge_pages(fresh, written=True) is fresh
    assert torch.equal(fresh, torch.full((n,), 2.0))


def test_the_additive_model_adds_a_bias_for_each_id_and_a_linear_term():
    model = AdditiveModel(Schema({"user": 3, "item": 4}, ("price",), ("click", "buy")))
    ids = {"user": torch.tensor([0, 2]), "item": torch.tensor([1, 3])}
    dense = torch.tensor([[2.0], [-1.0]])
    assert not model(ids, dense).any(), "it begins at even odds"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    user, item = (table.detach() for table in model.table_parameters().values())
    term = dense @ model.weight + model.bias
    assert torch.allclose(model(ids, dense), term + user[[0, 2]] + item[[1, 3]])
    assert [p.shape[-1] for p in model.table_parameters().values()] == [2, 2]
    assert len(model.dense_parameters()) == 2


def test_columns_whose_names_become_the_same_have_tables_of_their_own():
    schema = Schema({"a.b": 3, "a_dot_b": 5}, (), ("y.1", "y_dot_1"))
    model = ConversionModel(schema, n_buckets=1)
    sizes = {name: len(table) for name, table in model.table_parameters().items()}
    assert sizes == {"a.b": 4, "a_dot_b": 6} and len(model.towers) == 2


def test_the_additive_model_starts_at_the_positive_rates_it_is_given():
    schema = Schema(cardinality={"user": 5}, dense=(), objectives=("click", "buy"))
    model = AdditiveModel(schema)
    model.start_at_(torch.tensor([0.1, 0.0]))
    rates = model({"user": torch.tensor([0, 4])}, torch.zeros(2, 0)).sigmoid()
    torch.testing.assert_close(rates, torch.tensor([[0.1, 1e-6]]).expand(2, 2))


def test_no_other_system_is_asked_for_huge_pages(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("ctypes.CDLL", None)
    tensor = torch.empty(2**20)
    assert use_huge_pages(tensor, written=True) is tensor
