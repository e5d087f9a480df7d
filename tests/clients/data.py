"""A log in the form that each client expects, and the predictions of its trained model."""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from multiepoch_lab.data import AdsWorld, Log

BATCH = 512
Names = dict[str, Any]


@dataclass
class Days:
    """Two days of one world: the first is for training, the second for evaluation."""

    train: Log
    test: Log
    folder: Path  # for the files of clients that read files

    @classmethod
    def of(cls, seed: int, n: int, folder: Path) -> Days:
        """Draws n impressions to train on and n // 2 to evaluate."""
        world = AdsWorld(seed, n_users=10_000, n_products=10_000)
        return cls(world.day(0, n), world.day(1, n // 2), folder)

    @property
    def cardinality(self) -> dict[str, int]:
        return self.test.schema.cardinality  # products are born each day

    def log(self, which: str) -> Log:
        return getattr(self, which)

    def columns(self, which: str) -> dict[str, np.ndarray]:
        """Returns ids and dense features by name, (n,) each."""
        log = self.log(which)
        ids = {name: column.numpy() for name, column in log.ids.items()}
        return ids | {name: log.dense[:, k].numpy() for k, name in enumerate(log.schema.dense)}

    def label(self, which: str) -> np.ndarray:
        return self.log(which).labels[:, 0].numpy()  # clicks

    def tensors(self, which: str) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ids (n, n_tables), dense features (n, n_dense) and labels (n,)."""
        log = self.log(which)
        return torch.stack(list(log.ids.values()), 1), log.dense, log.labels[:, 0]


def expected_logloss(predicted: Any, log: Log) -> float:
    """Returns the logloss expected under the true probabilities, which has no noise of labels."""
    p = log.p_true[:, 0].double()
    q = torch.as_tensor(np.asarray(predicted)).double().flatten().clamp(1e-6, 1 - 1e-6)
    return float(-(p * q.log() + (1 - p) * (1 - q).log()).mean())


def _tensors(days: Days) -> Names:
    loader = DataLoader(TensorDataset(*days.tensors("train")), batch_size=BATCH)
    return {"cardinality": list(days.cardinality.values()), "loader": loader}


def lightning(days: Days) -> Names:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    options = {"accelerator": "cpu", "devices": 1, "default_root_dir": days.folder}
    return _tensors(days) | {"options": options | quiet | {"enable_checkpointing": False}}


def accelerate(days: Days) -> Names:
    return _tensors(days)


def deepctr_torch(days: Days) -> Names:
    from deepctr_torch.inputs import DenseFeat, SparseFeat

    columns: list = [SparseFeat(name, rows, 16) for name, rows in days.cardinality.items()]
    columns += [DenseFeat(name, 1) for name in days.train.schema.dense]
    train, test = (days.columns(which) for which in ("train", "test"))
    labels = {"y": days.label("train"), "y_test": days.label("test")}
    return {"columns": columns, "x": train, "x_test": test} | labels


def torch_rechub(days: Days) -> Names:
    from torch_rechub.basic.features import DenseFeature, SparseFeature
    from torch_rechub.utils.data import TorchDataset

    def features() -> tuple[list, list]:
        """Features keep their table, so that each model needs new ones."""
        sparse = [SparseFeature(name, rows, 16) for name, rows in days.cardinality.items()]
        return [DenseFeature(name) for name in days.train.schema.dense] + sparse, sparse

    train, test = (
        DataLoader(TorchDataset(days.columns(which), days.label(which)), batch_size=BATCH)
        for which in ("train", "test")
    )
    return {"features": features, "loader": train, "test_loader": test, "folder": days.folder}


def fuxictr(days: Days) -> Names:
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    files = {}
    for which in ("train", "test"):
        files[which] = str(days.folder / f"{which}.npz")
        np.savez(files[which], **days.columns(which), click=days.label(which))
    feature_map = FeatureMap("ads", str(days.folder))
    feature_map.features = OrderedDict(
        (name, {"type": "categorical", "source": "", "vocab_size": rows})
        for name, rows in days.cardinality.items()
    )
    feature_map.features.update(
        (name, {"type": "numeric", "source": ""}) for name in days.train.schema.dense
    )
    feature_map.labels, feature_map.default_emb_dim = ["click"], 16
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    (days.folder / "ads").mkdir(exist_ok=True)  # where the client saves its best model
    train, valid = RankDataLoader(
        feature_map,
        stage="train",
        train_data=files["train"],
        valid_data=files["test"],
        batch_size=BATCH,
        shuffle=False,
        num_workers=0,
        data_format="npz",
    )
    options = {"verbose": 0, "model_root": str(days.folder), "metrics": ["logloss", "AUC"]}
    return {"feature_map": feature_map, "train": train, "valid": valid, "options": options}


def recbole(days: Days) -> Names:
    import pandas as pd
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    fields = {"user": "user_id", "product": "item_id"}
    names = [fields.get(name, name) for name in days.columns("train")]
    kinds = ["token"] * len(days.cardinality) + ["float"] * len(days.train.schema.dense)
    (days.folder / "ads").mkdir(exist_ok=True)
    for which in ("train", "test"):
        frame = pd.DataFrame(days.columns(which))
        frame.columns = [f"{name}:{kind}" for name, kind in zip(names, kinds)]
        frame["label:float"] = days.label(which)
        frame.to_csv(days.folder / "ads" / f"ads.{which}.inter", sep="\t", index=False)
    settings = {
        "data_path": str(days.folder),
        "checkpoint_dir": str(days.folder),
        "benchmark_filename": ["train", "test", "test"],
        "load_col": {"inter": [*names, "label"]},
        "LABEL_FIELD": "label",
        "eval_args": {"mode": "labeled", "order": "TO"},
        "metrics": ["LogLoss", "AUC"],
        "valid_metric": "LogLoss",
        "train_neg_sample_args": None,
        "train_batch_size": BATCH,
        "eval_batch_size": 4 * BATCH,
        "embedding_size": 16,
        "learning_rate": 1e-3,
        "epochs": 1,
        "use_gpu": False,
        "state": "ERROR",
    }
    config = Config(model="DeepFM", dataset="ads", config_dict=settings)
    train, valid, test = data_preparation(config, create_dataset(config))
    return {"config": config, "train": train, "valid": valid, "test": test}


def torchrec(days: Days) -> Names:
    import dataclasses

    from torchrec import KeyedJaggedTensor
    from torchrec.streamable import Pipelineable

    @dataclasses.dataclass
    class Batch(Pipelineable):
        dense_features: Tensor
        sparse_features: KeyedJaggedTensor
        labels: Tensor

        def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
            return self

        def record_stream(self, stream: Any) -> None:
            pass

    def batches(which: str) -> list[Batch]:
        found, keys = [], list(days.cardinality)
        for ids, dense, labels in zip(*(one.split(BATCH) for one in days.tensors(which))):
            one_each = torch.ones(ids.numel(), dtype=torch.int32)
            keyed = KeyedJaggedTensor.from_lengths_sync(keys, ids.T.flatten(), one_each)
            found.append(Batch(dense, keyed, labels))
        return found

    return {
        "cardinality": days.cardinality,
        "batches": batches("train"),
        "test_batches": batches("test"),
    }


def _logits(names: Names, days: Days, which: str) -> Tensor:
    model, (ids, dense, _) = names["model"].eval(), days.tensors(which)
    kind = next(model.tower.parameters()).dtype
    return torch.sigmoid(model(ids, dense.to(kind)).float())


def _predict_deepctr_torch(names: Names, days: Days, which: str) -> Any:
    return names["model"].predict(days.columns(which), 4 * BATCH)


def _predict_torch_rechub(names: Names, days: Days, which: str) -> Any:
    loader = names["loader" if which == "train" else "test_loader"]
    return names["trainer"].predict(names["model"], loader)


def _predict_fuxictr(names: Names, days: Days, which: str) -> Any:
    return names["model"].predict(names["train" if which == "train" else "valid"])


def _predict_recbole(names: Names, days: Days, which: str) -> Any:
    inter, model = names[which].dataset.inter_feat, names["model"].eval()
    return torch.cat([model.predict(inter[k : k + BATCH]) for k in range(0, len(inter), BATCH)])


def _predict_torchrec(names: Names, days: Days, which: str) -> Any:
    dlrm = names["model"].eval().model
    batches = names["batches" if which == "train" else "test_batches"]
    parts = [dlrm(batch.dense_features, batch.sparse_features) for batch in batches]
    return torch.sigmoid(torch.cat(parts))


@dataclass
class Client:
    """Data and predictions for one section of the page *Recipes*."""

    prepare: Callable[[Days], Names]
    _predict: Callable[[Names, Days, str], Any]

    def predict(self, names: Names, days: Days, which: str) -> Any:
        """Returns the predicted probabilities of a click, (n, ...)."""
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            return self._predict(names, days, which)


CLIENTS = {
    "Lightning": Client(lightning, _logits),
    "Accelerate": Client(accelerate, _logits),
    "DeepCTR-Torch": Client(deepctr_torch, _predict_deepctr_torch),
    "torch-rechub": Client(torch_rechub, _predict_torch_rechub),
    "FuxiCTR": Client(fuxictr, _predict_fuxictr),
    "RecBole": Client(recbole, _predict_recbole),
    "TorchRec": Client(torchrec, _predict_torchrec),
}
