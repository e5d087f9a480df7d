"""Logs from packages, and the real logs side by side."""

import io
import tarfile
import zipfile

from multiepoch_compare.estimates import Estimate
from tools import public_logs, real_logs


def test_movielens_has_the_ratings_of_users_by_time(tmp_path):
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w") as archive:
        rows = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        rows += "1\t7\t4\t881250949\n2\t7\t5\t881150949\n1\t8\t3\t881150950\n"
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.inter", rows)
        users = "user_id:token\tage:token\n1\t24\n2\t53\n"
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.user", users)
    log = public_logs.movielens(path)
    assert log["user_id"].tolist() == [2, 1, 1] and log["age"].tolist() == [53, 24, 24]
    assert log["liked"].tolist() == [1, 0, 1] and log["loved"].tolist() == [1, 0, 0]
    assert log["date"].tolist() == ["1997-12-03", "1997-12-03", "1997-12-04"]


def test_open_bandit_has_all_campaigns_of_both_policies(tmp_path):
    path = tmp_path / "sdist.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for k, policy in enumerate(("random", "bts")):
            for campaign in ("all", "men", "women"):
                rows = f",timestamp,item_id,position,click,{','.join(public_logs.USER)}\n"
                rows += f"0,2019-11-2{4 - k} 00:00:17.5+00:00,3,1,{k},a,b,c,d\n"
                name = f"obp-0.5.7/obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
                info = tarfile.TarInfo(name)
                info.size = len(rows)
                archive.addfile(info, io.BytesIO(rows.encode()))
    log = public_logs.open_bandit(path)
    assert log["policy"].tolist() == ["bts"] * 3 + ["random"] * 3
    assert set(log["item_id"]) == {"all 3", "men 3", "women 3"}
    assert log["date"].tolist() == ["2019-11-23"] * 3 + ["2019-11-24"] * 3


def test_a_log_is_a_line():
    change = Estimate(-0.04, -1.0, 1.0)
    line = {"quarter": change, "second": Estimate(12.0, 10.0, 14.0), "against_plain": change}
    found = {
        "methods": [
            line | {"label": name}
            for name in ("plain", "row-wise Adagrad", "mean of ends", "additive")
        ],
        "outlook": {"half": 0.84},
        "half_measured": 0.66,
        "advised": None,
    }
    cells = dict(zip(real_logs.HEADS, real_logs.line("mine", found), strict=True))
    assert cells["plain, ¼ into epoch 2"] == "0.0\u00a0% [−1.0, 1.0]"
    assert cells["plain, end of epoch 2"] == "+12.0\u00a0% [10.0, 14.0]"
    assert cells["half an interval: expected, measured"] == "±0.8, ±0.7\u00a0%"
    assert cells["advice"] == "none"
