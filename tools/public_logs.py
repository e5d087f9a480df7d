"""Makes logs that come with Python packages into files that `multiepoch compare` reads.

    pip download --no-deps recbole==1.2.1
    pip download --no-deps --ignore-requires-python obp==0.5.7
    python -m tools.public_logs

Reads the archives in the folder and writes movielens.parquet (MovieLens 100k, liked: four or five
stars, loved: five) and open_bandit.parquet (the sample of the Open Bandit Dataset). The licences of
the data are their owners'; neither file is part of this project.
"""

from __future__ import annotations

import tarfile
import zipfile
from itertools import product
from pathlib import Path

import pandas as pd

RECBOLE, OBP = "recbole-1.2.1-py3-none-any.whl", "obp-0.5.7.tar.gz"
USER = [f"user_feature_{k}" for k in range(4)]


def movielens(archive: Path) -> pd.DataFrame:
    """Returns the ratings, a row each, with the features of their users."""
    with zipfile.ZipFile(archive) as folder:
        ratings, users = (
            pd.read_csv(folder.open(f"recbole/dataset_example/ml-100k/ml-100k.{end}"), sep="\t")
            for end in ("inter", "user")
        )
    found = ratings.merge(users, on="user_id:token")
    found.columns = [name.split(":")[0] for name in found.columns]
    found["liked"], found["loved"] = (found["rating"] >= 4) + 0, (found["rating"] >= 5) + 0
    found["date"] = pd.to_datetime(found["timestamp"], unit="s").dt.date.astype(str)
    return found.sort_values("timestamp", kind="stable").drop(columns=["rating", "timestamp"])


def open_bandit(archive: Path) -> pd.DataFrame:
    """Returns the impressions of both policies and all three campaigns."""
    found = []
    with tarfile.open(archive) as folder:
        for policy, campaign in product(("random", "bts"), ("all", "men", "women")):
            name = f"obp-0.5.7/obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
            rows = pd.read_csv(folder.extractfile(name))
            rows = rows[["timestamp", "item_id", "position", "click", *USER]]
            item = campaign + " " + rows["item_id"].astype(str)
            found.append(rows.assign(campaign=campaign, policy=policy, item_id=item))
    log = pd.concat(found)
    log["timestamp"] = pd.to_datetime(log["timestamp"], format="ISO8601")
    log["date"] = log["timestamp"].dt.date.astype(str)
    return log.sort_values("timestamp", kind="stable").drop(columns="timestamp")


def main() -> None:
    for make, archive in ((movielens, RECBOLE), (open_bandit, OBP)):
        log = make(Path(archive))
        log.to_parquet(f"{make.__name__}.parquet", index=False)
        print(f"{make.__name__}.parquet: {len(log):,} rows")


if __name__ == "__main__":
    main()
