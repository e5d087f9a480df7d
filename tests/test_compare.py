import io
import json
import os
import re
import shlex
import sys
import types
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bs4 import BeautifulSoup

import multiepoch_compare
from multiepoch_compare import api, figures, output, plan, record, report, run
from multiepoch_compare import command as compare
from multiepoch_compare import inspect as inspecting
from multiepoch_compare import verdict as judge
from multiepoch_compare.__main__ import main
from multiepoch_compare.estimates import WORDS
from multiepoch_compare.inspect import inspect, look, sample
from multiepoch_compare.leak import cross_gain
from multiepoch_compare.readers import Columns, map_log
from multiepoch_lab.data import AdsWorld, DataError
from multiepoch_lab.data.kuairand import PACKAGED
from multiepoch_lab.train import NonFiniteLoss

pytestmark = pytest.mark.slow

CALL = [
    "--ids",
    "user,item",
    "--labels",
    "click,buy",
    "--day",
    "day",
    "--dense",
    "price",
    "--cross",
    "user,item",
    "--seeds",
    "2",
    "--epochs",
    "2",
    "--batch-size",
    "128",
]
EVERY = dict(plan.TABLE_RATE_METHODS)
SOME = {label: EVERY[label] for label in (plan.SPARSE, "MEDA", plan.TAIL)}


def prepare(folder, patch):
    """Goes into a folder with a small log; some methods, two trials each."""
    patch.setenv("MULTIEPOCH_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    patch.setattr(plan, "TABLE_RATE_METHODS", SOME)
    every = plan.trials
    patch.setattr(plan, "trials", lambda budget=6, methods=(): every(2, methods))
    rng = np.random.default_rng(0)
    n = 1_500
    user, item = rng.integers(0, 60, n), rng.integers(0, 40, n)
    p = 1 / (1 + np.exp(-rng.normal(size=60)[user] - rng.normal(size=40)[item]))
    pq.write_table(
        pa.table(
            {
                "user": [f"u{k}" for k in user],
                "item": item,
                "click": (rng.random(n) < p).astype(int),
                "buy": (rng.random(n) < 0.3 * p).astype(int),
                "price": rng.lognormal(size=n),
                "day": 20240101 + np.arange(n) * 5 // n,
            }
        ),
        folder / "log.parquet",
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with the report of CALL by every method, which no test changes."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        prepare(folder, patch)
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(plan, "TABLE_RATE_METHODS", EVERY)
        assert main(["compare", "log.parquet", *CALL]) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


def report_of(place, name="report"):
    return record.loads((place / name / "report.json").read_text())


def without_times(found):
    """A report without what differs from run to run."""
    found = {k: v for k, v in found.items() if k not in ("seconds", "cpu_seconds", "date", "call")}
    found["methods"] = [
        {k: v for k, v in m.items() if k != "seconds_an_epoch"} for m in found["methods"]
    ]
    return found


def test_resets_are_searched_around_the_best_rates_of_one_epoch_of_their_rule():
    (first, *_), steps = (
        plan.trials()[plan.ADAGRAD],
        sorted({round(np.log10(trial.embedding_lr), 3) for trial in plan.trials()[plan.ADAGRAD]}),
    )
    assert np.diff(steps) == pytest.approx([0.5] * 4), "half decades"
    found = plan.around(first, 1e-4)
    assert list(found) == [plan.ADAGRAD, "MEDA", plan.TAIL, plan.DROPPED]
    for label, several in found.items():
        assert {trial.rule for trial in several} == {"rowwise_adagrad"}
        assert {trial.label for trial in several} == {label}
        assert 1e-4 in {trial.eps for trial in several}
    assert plan.labels() == [plan.ADAGRAD, "MEDA", plan.TAIL, plan.DROPPED, plan.ADDITIVE]
    assert plan.labels(["FAL", plan.ADAMAR]) == ["FAL", plan.ADAMAR]


def test_a_call_gives_a_page_a_record_and_a_table(compared):
    printed = (compared / "printed.txt").read_text()
    found = report_of(compared)
    pairs = [pair for label in ("plain", plan.ADAGRAD) for pair in (label, plan.REPEATED[label])]
    assert [m["label"] for m in found["methods"]][:4] == pairs
    labels = {m["label"] for m in found["methods"]} - {*pairs}
    assert labels == {"MEDA", plan.TAIL, plan.DROPPED, plan.ADDITIVE}
    for m in found["methods"]:
        assert (m["epochs"] == 1) == (m["label"] in plan.ONCE)
    assert found["data"]["sizes"] == {"train": 900, "validation": 300, "test": 300}
    assert found["data"]["split"]["test"] == "2024-01-05"
    total = sum(found["frequencies"]["user_x_item"])
    assert total == pytest.approx(1) and sum(found["group_sizes"]) == 300
    assert all(sentence in printed for sentence in found["headline"])
    assert (compared / "report" / "report.txt").read_text() in printed
    for m in found["methods"]:
        assert m["label"] in printed and 1 <= m["epochs"] <= 2
        by_epoch = np.array(m["logloss_by_epoch"])  # (epochs, objectives), as the curves end
        ends = [
            [
                np.mean(values)
                for epoch, *values in m["curves"]["logloss"][name]
                if epoch == int(epoch)
            ]
            for name in ("click", "buy")
        ]
        assert np.allclose(by_epoch.T, ends, atol=1e-5)
    assert re.search(r"\[1/\d+\] .* about \d+ (s|min) left", printed)


def test_the_page_needs_no_other_file_and_describes_its_figures(compared):
    text = (compared / "report" / "index.html").read_text()
    soup = BeautifulSoup(text, "html.parser")
    assert not soup.find_all(["script", "link", "img", "iframe"])
    assert not re.search(r'(src|href)="(?!#)', text.replace("xlink:href", "href"))
    pictures = soup.find_all("svg")
    assert len(pictures) == 6 and all(p["aria-label"] for p in pictures)
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert soup.find("meta", attrs={"name": "viewport"})
    assert len(soup.find("tbody").find_all("tr")) == len(report_of(compared)["methods"]) + 1
    said = [str(p.string) for p in soup.find(class_="verdict").find_all("p")]
    assert said[:2] == report_of(compared)["headline"][:2]


def test_the_share_of_the_jump_that_is_labels_seen_is_measured_where_plain_collapses(
    place, monkeypatch
):
    trials = {"plain": [plan.Trial("plain", "plain", 1e-2, 1e-2)]}
    monkeypatch.setattr(plan, "trials", lambda budget=6, methods=(): trials)
    world = AdsWorld(0, 2_000, 1_000, 100, 20, impressions_per_day=4_000)
    log = world.days(0, 4)
    columns = {name: ids.numpy() for name, ids in log.ids.items()} | {"day": log.day.numpy()}
    columns |= {"click": log.labels[:, 0].int().numpy()}
    pq.write_table(pa.table(columns), "sparse.parquet")
    names = ",".join(log.ids)
    call = ["--ids", names, "--labels", "click", "--day", "day", "--batch-size", "128"]
    assert main(["compare", "sparse.parquet", *call, "--seeds", "3", "--epochs", "2"]) == 0
    seen = report_of(place)["own_label"]
    assert seen["jump"].low > judge.COLLAPSE > abs(seen["control"].mean)
    assert seen["share"].mean == pytest.approx(100, abs=30)
    (sentence,) = (one for one in report_of(place)["headline"] if one.startswith("About"))
    assert sentence.startswith(f"About {min(seen['share'].mean, 100):.0f} % [")
    assert sentence in (place / "report" / "report.txt").read_text()
    kept = [json.loads(p.read_text()) for p in (place / "report" / "trials").iterdir()]
    control = [one["trial"] for one in kept if one["trial"]["method"] == "two_fold"]
    (plain,) = (m["trial"] for m in report_of(place)["methods"] if m["label"] == "plain")
    assert sorted(one["seed"] for one in control) == [0, 1, 2]
    assert {one["embedding_lr"] for one in control} == {plain["embedding_lr"]}
    monkeypatch.setattr(plan, "MAX_CONTROL_ROWS", 100)
    assert main(["compare", "sparse.parquet", *call, "--seeds", "3", "--epochs", "2"]) == 0
    assert report_of(place)["own_label"] is None, "the trials are kept, and the control is left out"


@pytest.mark.parametrize("control, share", [((0.0, 0.0, 0.0), 100), ((0.05, 0.06, 0.07), 50)])
def test_the_share_is_of_the_jump_a_quarter_into_epoch_2(control, share):
    def results(jumps):
        return [
            {
                "status": "ok",
                "points": [
                    ["test", 1.0, "click", "logloss", 0.5],
                    ["test", 1.25, "click", "logloss", 0.5 * np.exp(jump)],
                    ["test", 2.0, "click", "logloss", 9.0],
                    ["validation", 1.25, "click", "logloss", 9.0],
                ],
            }
            for jump in jumps
        ]

    plain = results((0.1, 0.12, 0.14))
    found = judge.own_label(plain, results(control))
    assert found.share.mean == pytest.approx(share)
    assert found.jump.mean == pytest.approx(100 * np.expm1(0.12))
    assert judge.own_label(results(control), plain) is None or control[0] > 0
    assert judge.own_label(plain, []) is None
    assert judge.own_label(plain, [{"status": "diverged"}] * 3) is None


def test_a_run_evaluates_what_the_method_serves(place, monkeypatch):
    columns = Columns(("user", "item"), ("click",), "day")
    mapped = map_log("log.parquet", columns)
    setup = run.Setup(str(mapped.folder), columns, plan.split(mapped, "log"), 2, 64)
    trial = plan.Trial("blended", "tail_rewind_blend", 1e-3, 1e-1, 20)
    found = run.execute(trial, setup)
    ends = [v for s, e, _, m, v in found["points"] if (s, m) == ("test", "logloss") and e == int(e)]
    sizes = run.read_parts(setup).sizes()["blocks"]
    assert np.allclose(np.array(found["blocks"]).sum(axis=(1, 2)) / sizes.sum(), ends, atol=1e-5)


def test_an_interrupted_call_resumes(place, capsys, monkeypatch):
    assert main(["compare", "log.parquet", *CALL, "--out", "whole"]) == 0
    execute, done = run.execute, []

    def stop_at_the_fifth(trial, setup):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(trial)
        return execute(trial, setup)

    monkeypatch.setattr(run, "execute", stop_at_the_fifth)
    assert main(["compare", "log.parquet", *CALL, "--out", "stopped"]) == 130
    assert "repeat the command to resume" in capsys.readouterr().err
    assert len(list((place / "stopped" / "trials").iterdir())) == 4
    assert not (place / "stopped" / "lock").exists()
    monkeypatch.setattr(run, "execute", execute)
    assert main(["compare", "log.parquet", *CALL, "--out", "stopped"]) == 0
    assert re.search(r"4 of \d+ runs are kept from before", capsys.readouterr().out)
    assert without_times(report_of(place, "stopped")) == without_times(report_of(place, "whole"))


def test_one_seed_gives_valid_json_and_any_column_name_will_do(place):
    table = pq.read_table("log.parquet").rename_columns(
        ["type", "user.id", "$half_$", "buy", "price", "day"]
    )
    table = table.append_column("user_dot_id", table["type"])
    pq.write_table(table, "names.parquet")
    call = [
        "--ids",
        "type,user.id,user_dot_id",
        "--labels",
        "$half_$",
        "--day",
        "day",
        "--seeds",
        "1",
        "--epochs",
        "2",
        "--batch-size",
        "256",
    ]
    assert main(["compare", "names.parquet", *call]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads((place / "report" / "report.json").read_text(), parse_constant=refuse)
    assert found["methods"][0]["second"]["low"] is None and found["advised"] is None
    assert found["data"]["cut"] == [] and set(found["frequencies"]) == {
        "type",
        "user.id",
        "user_dot_id",
    }


def test_processes_share_the_parts_by_a_file_that_is_gone_at_the_end(place, capsys, monkeypatch):
    columns = Columns(("user", "item"), ("click",), "day", cross=(("user", "item"),))
    mapped = map_log("log.parquet", columns)
    own = run.Setup(str(mapped.folder), columns, plan.split(mapped, "log"), 2, 64)
    shared = replace(own, shared=str(place / "parts"))
    expected = run.read_parts(own)
    for _ in range(2):  # the first writes the file
        run.read_parts.cache_clear()
        with torch.serialization.safe_globals([type(expected.train)]):
            pass  # torch takes a class off its list at the end, whoever put it there
        parts = run.read_parts(shared)
    for name in plan.PARTS:
        log, other = getattr(parts, name), getattr(expected, name)
        assert log.schema == other.schema and torch.equal(log.labels, other.labels)
        assert all(torch.equal(log.ids[k], other.ids[k]) for k in other.ids)
    assert torch.equal(parts.block, expected.block) and parts.column == expected.column

    seen, execute = [], run.execute

    def look(trial, setup):
        seen.append((place / "report" / output.SHARED).exists())
        return execute(trial, setup)

    monkeypatch.setattr(run, "execute", look)
    (place / "report").mkdir()
    (place / "report" / output.SHARED).write_text("of a call that was killed")
    assert main(["compare", "log.parquet", *CALL]) == 0
    assert all(seen) and not (place / "report" / output.SHARED).exists()

    @contextmanager
    def full(path):
        yield Path("/dev/full")

    monkeypatch.setattr(run, "atomic_write", full)
    assert main(["compare", "log.parquet", *CALL, "--out", "other"]) == 2
    said = capsys.readouterr().err
    assert "other: the disk is full; free some space" in said and said.count("\n") == 1


def test_a_killed_worker_gives_one_sentence(place, capsys, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr(compare, "tune_and_run", killed)
    assert main(["compare", "log.parquet", *CALL]) == 2
    said = capsys.readouterr().err
    assert "a worker process was killed" in said and said.count("\n") == 1


def test_a_rate_that_diverges_is_no_candidate(place, monkeypatch):
    execute = run.execute

    def diverges_at_first(trial, setup):
        if [trial] == plan.trials().get(trial.label, [])[:1]:
            raise NonFiniteLoss
        return execute(trial, setup)

    monkeypatch.setattr(run, "execute", diverges_at_first)
    assert main(["compare", "log.parquet", *CALL]) == 0
    for m in report_of(place)["methods"]:
        assert m["label"] in m["setting"]
        assert m["trial"] not in [several[0].__dict__ for several in plan.trials().values()]
    kept = [json.loads(p.read_text()) for p in (place / "report" / "trials").iterdir()]
    assert [one["status"] for one in kept].count("diverged") == len(plan.trials())


def test_a_method_that_always_diverges_is_refused(place, capsys, monkeypatch):
    def diverges(trial, setup):
        raise NonFiniteLoss

    monkeypatch.setattr(run, "execute", diverges)
    assert main(["compare", "log.parquet", *CALL]) == 2
    said = capsys.readouterr().err
    assert " diverges at every learning rate" in said and said.count("\n") == 1


def test_another_error_is_not_taken_for_a_divergence(place, monkeypatch):
    def fails(trial, setup):
        raise RuntimeError("the loss is not finite")

    monkeypatch.setattr(run, "execute", fails)
    with pytest.raises(RuntimeError):
        main(["compare", "log.parquet", *CALL])


def test_a_look_at_few_days_splits_by_rows(place):
    pq.write_table(pq.read_table("log.parquet").slice(0, 500), "few.parquet")
    few = map_log("few.parquet", Columns(("user",), ("click",), "day"))
    with pytest.raises(ValueError, match="2 days"):
        plan.split(few, "log")
    mapped = map_log("log.parquet", Columns(("user",), ("click",), "day"))
    mapped.days = ["one"]
    split = plan.split(mapped, "log", look=True, n_test=1)
    assert split.by_rows and split.ends == ((0, 1199), (1200, 1349), (1350, 1499))
    assert len(split.read(mapped, "train")) == 1_200


def test_a_look_at_few_days_out_of_order_is_no_split(place):
    columns = Columns(("user",), ("click",), "day")
    table = pq.read_table("log.parquet").slice(0, 600)
    pq.write_table(pa.concat_tables([table, table]), "mixed.parquet")
    with pytest.raises(ValueError, match="has 2 days"):
        plan.split(map_log("mixed.parquet", columns), "mixed", look=True)


def test_several_days_can_be_tested_on(place):
    mapped = map_log("log.parquet", Columns(("user",), ("click",), "day"))
    assert plan.split(mapped, "log", n_test=2).ends == ((0, 0), (1, 2), (3, 4))
    with pytest.raises(ValueError, match=r"has 5 days, .* at least 7 are needed"):
        plan.split(mapped, "log", n_test=3)


@pytest.mark.parametrize(
    "counts, days",
    [
        ([20_000] * 7, (1, 1)),
        ([20_000] * 6 + [12], (1, 2)),  # the last day is nearly empty
        ([20_000] * 5 + [44, 46], (1, 3)),
        ([20_000] * 3 + [536], (1, 2)),
        ([4_000] * 9, (1, 2)),
        ([50] * 31, (7, 7)),  # none are enough: as many as leave half for training
        ([20_000, 20_000, 12], (1, 1)),  # no other choice
        ([1, 2], (1, 1)),
    ],
)
def test_as_many_days_are_tested_on_as_a_verdict_needs(counts, days):
    assert plan.days_to_test(np.array(counts), [0.5]) == days
    assert 5_000 < plan.rows_needed([0.5]) < 10_000 < plan.rows_needed([0.1]) < 20_000
    needed = plan.rows_needed([0.3, 0.01])
    assert plan.half_width(needed, [0.3, 0.01]) == pytest.approx(plan.COLLAPSE, rel=1e-3)


def test_a_test_part_that_decides_nothing_gives_no_advice(place):
    assert main(["compare", "log.parquet", *CALL, "--methods", "MEDA"]) == 0  # 300 impressions
    found = report_of(place)
    assert found["headline"][0].startswith("No advice: a test part of 300 impressions")
    assert found["advised"] is None and not any("Keep" in one for one in found["headline"])
    assert {m["label"] for m in found["methods"]} - {*plan.REPEATED.values()} == {
        "plain",
        plan.ADAGRAD,
        "MEDA",
    }


def test_a_time_far_outside_the_rest_is_pointed_out(place, capsys):
    table = pq.read_table("log.parquet")
    for day, where in ((19700101, "before"), (20990101, "after")):
        days = table["day"].to_pylist()
        days[0 if where == "before" else -1] = day
        odd = table.set_column(table.column_names.index("day"), "day", pa.array(days))
        pq.write_table(odd, f"{where}.parquet")
        mapped = map_log(f"{where}.parquet", Columns(("user",), ("click",), "day"))
        (found,) = plan.far_days(mapped)
        assert str(day)[:4] in found and where in found and found.startswith("1 impressions")
    assert plan.far_days(map_log("log.parquet", Columns(("user",), ("click",), "day"))) == []
    main(["compare", "after.parquet", *CALL])
    assert "Warning: 1 impressions are of 2099-01-01" in capsys.readouterr().out


def test_the_training_days_are_cut_to_the_latest(place, monkeypatch):
    mapped = map_log("log.parquet", Columns(("user",), ("click",), "day"))
    monkeypatch.setattr(plan, "MAX_TRAIN", 100)
    train = plan.split(mapped, "log").read(mapped, "train")
    assert len(train) == 100 and set(train.day.tolist()) == {2}


def test_the_latest_are_kept_even_if_the_file_begins_with_them(place, monkeypatch):
    table = pq.read_table("log.parquet")
    pq.write_table(table.take(np.arange(len(table))[::-1].copy()), "back.parquet")
    mapped = map_log("back.parquet", Columns(("user",), ("click",), "day"))
    monkeypatch.setattr(plan, "MAX_TRAIN", 100)
    split = plan.split(mapped, "log")
    assert set(split.read(mapped, "train").day.tolist()) == {2}
    assert split.n_rows(mapped, "train") == 900 and split.n_rows(mapped, "test") == 300


def test_blocks_are_of_users_or_of_impressions_if_a_column_has_too_few_values(place):
    for ids, blocks_of in ((("user",), "user"), (("few", "user"), "user"), (("few",), None)):
        table = pq.read_table("log.parquet").append_column("few", pa.array([1] * 1_500))
        pq.write_table(table, "few.parquet")
        columns = Columns(ids, ("click",), "day")
        mapped = map_log("few.parquet", columns)
        setup = run.Setup(str(mapped.folder), columns, plan.split(mapped, "log"), 2, 64)
        parts = run.read_parts(setup)
        for name, part in (("blocks", parts.test), ("tuning_blocks", parts.validation)):
            sizes = parts.sizes()[name]
            assert sizes.sum() == len(part) and sizes.max() <= len(part) * run.LARGEST_BLOCK
        if blocks_of:
            users = parts.test.ids[blocks_of]
            pairs = {(int(u), int(b)) for u, b in zip(users, parts.block)}
            assert len(pairs) == len(users.unique()), "a user is in one block"


def test_dense_features_are_scaled_by_the_training_days(place):
    mapped = map_log("log.parquet", Columns(("user",), ("click",), "day", ("price",)))
    log, scale = plan.prepared(mapped.read_days(0, 2), None)
    assert log.dense.mean().item() == pytest.approx(0, abs=1e-5)
    assert log.dense.std(correction=0).item() == pytest.approx(1, abs=0.05)
    later, again = plan.prepared(mapped.read_days(3), scale)
    raw = mapped.read_days(3).dense.numpy()
    assert again is scale
    inside = np.abs((raw - scale[1]) / scale[2]) < 10
    assert np.allclose(
        later.dense.numpy()[inside], ((raw - scale[1]) / scale[2])[inside], atol=1e-4
    )


@pytest.mark.parametrize(
    "n, expected", [(10, 1), (399, 1), (900, 4), (75_000, 256), (198_895, 512), (10**7, 2_048)]
)
def test_the_batch_leaves_200_steps_an_epoch(n, expected):
    assert plan.batch_size(n) == expected
    assert n < plan.LEAST_STEPS or n // expected >= plan.LEAST_STEPS


def test_the_batch_follows_the_log_and_is_said(place, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_STEPS", 20)
    call = [*CALL[: CALL.index("--batch-size")], "--epochs", "2"]
    assert main(["compare", "log.parquet", *call]) == 0
    found = report_of(place)
    assert (found["batch_size"], found["steps"]) == (32, 29)
    text = report.text(found)
    assert "An epoch is 29 steps of 32 impressions." in text and "--batch-size" not in text
    constant = f"{found['constant'][0]:.4f}"
    assert constant in text and 0 < found["constant"][0] < 1
    found["steps"] = 19
    assert "give a smaller --batch-size" in report.text(found)


def test_no_trial_is_tried_twice_and_plain_has_one_rate():
    assert list(plan.trials(2, ["MEDA", "additive"])) == ["plain", plan.ADAGRAD, "additive"]
    for budget in (2, 6):
        for label, several in plan.trials(budget).items():
            assert 2 <= len(several) == len(set(several)) <= budget
            assert {t.label for t in several} == {label}
            assert all((t.dense_lr == t.embedding_lr) == (label == "plain") for t in several)


def test_python_gets_a_table_of_a_frame(place, monkeypatch):
    frame, drawn = pq.read_table("log.parquet").to_pandas(), []
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr("IPython.display.display", drawn.append)
    options = {"ids": ["user", "item"], "labels": ["click"], "day": "day", "seeds": 2, "epochs": 2}
    options |= {"methods": ["MEDA"], "batch_size": 128, "cross": [["user", "item"]]}
    table = multiepoch_compare.compare(frame, out="python", **options)
    found = report_of(place, "python")
    assert table.attrs["report"] == found and found["data"]["source"] == "DataFrame"
    assert found["call"].startswith("multiepoch compare DataFrame --ids user,item")
    assert {*table.index} == {"plain", plan.ADAGRAD, "MEDA", *plan.REPEATED.values()}
    for label, row in table.iterrows():
        (m,) = (m for m in found["methods"] if m["label"] == label)
        assert row["logloss click"] == m["logloss_by_epoch"][m["epochs"] - 1][0]
        assert row["vs plain, mean"] == m["against_plain"].mean
    assert drawn[0].data.count("<svg") == len(found["objectives"])
    for words, wrong in {
        "no option 'idz'": {"idz": ["user"]},
        "invalid int value: '2.0'": options | {"epochs": 2.0},
    }.items():
        with pytest.raises(DataError, match=words):
            multiepoch_compare.compare(frame, out="wrong", **wrong)
    with pytest.raises(DataError, match=r"DataFrame: .*; name each column, and give it values of"):
        multiepoch_compare.compare(frame.assign(price=["a", *range(len(frame) - 1)]), **options)


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(place, monkeypatch):
    found = []
    for n in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda n=n: n)
        assert main(["compare", "log.parquet", *CALL, "--methods", "MEDA", "--out", str(n)]) == 0
        found.append(without_times(report_of(place, str(n))) | {"machine": ""})
    assert found[0] == found[1]


def test_a_quick_look_at_two_days_says_what_it_left_out(place, monkeypatch, capsys):
    monkeypatch.setattr(compare, "LOOK_ROWS", 1_300)
    table = pq.read_table("log.parquet")
    days = pa.array(20240101 + np.arange(len(table)) * 2 // len(table))
    two_days = table.set_column(table.column_names.index("day"), "day", days)
    pq.write_table(two_days, "two.parquet")
    few = ["--quick", "--methods", "MEDA"]
    assert main(["compare", "two.parquet", *CALL, *few]) == 0
    said = capsys.readouterr().out
    found = report_of(place)
    assert found["data"]["quick"] and found["data"]["by_rows"] and found["data"]["share"] < 1
    page = BeautifulSoup((place / "report" / "index.html").read_text(), "html.parser").text
    for text in (said, " ".join(page.split())):
        assert "Quick look" in text and "split by position" in text


def test_the_same_frame_is_the_same_log_and_a_call_leaves_no_parts_in_memory(place):
    frame, logs = pq.read_table("log.parquet").to_pandas(), []
    for k, one in enumerate((frame, frame.copy(), frame.assign(price=1.0))):
        (place / str(k)).mkdir()
        path = api._written(one, place / str(k))
        columns = Columns(("user", "item"), ("click",), "day")
        logs.append(map_log(path, columns, place / "cache", share=0.9).folder)
    assert logs[0] == logs[1] != logs[2]
    assert main(["compare", "log.parquet", *CALL]) == 0
    assert run.read_parts.cache_info().currsize == 0


# inspect ------------------------------------------------------------------------------------------


def test_inspect_finds_the_columns_and_prints_a_call_that_is_right(place):
    text = inspect(PACKAGED)
    call = next(line for line in text.splitlines() if "multiepoch compare" in line)
    words = call.split()
    options = compare._parser().parse_args(words[words.index("compare") + 1 :])
    assert {"user_id", "video_id", "author_id"} <= set(options.ids)
    assert options.labels[:2] == ("is_click", "long_view") and options.day == "date"
    assert options.quick
    columns = compare.columns_of(options)
    assert map_log(PACKAGED, columns, share=0.01).n < 10_000


def test_inspect_proposes_nothing_that_compare_refuses(place):
    n = 2_000
    pq.write_table(
        pa.table(
            {
                "user id": pa.array([f"u{k % 90}" for k in range(n)], pa.large_string()),
                "click": [k % 3 == 0 for k in range(n)],
                "seen": [k % 9 > 0 for k in range(n)],
                "date": pa.array([f"2024-01-0{1 + k // 500}" for k in range(n)], pa.large_string()),
                "tags": [[k % 40, k % 7] for k in range(n)],
                "scores": [[k / 7] for k in range(n)],
                "history": [[0] * 65] * n,
                "words": pa.array([f"a{k % 30}|b{k % 11}" for k in range(n)]),
                "raw": [bytes([k % 7]) for k in range(n)],
                "address": [f"10.{k % 10}.0.{k % 50}" for k in range(n)],
                "rate": [f"{k % 8 / 4:g}" for k in range(n)],
                "gaps": [None if k == 9 else k / 7 for k in range(n)],
                "nan": [str(k % 900 / 7) if k else "nan" for k in range(n)],
                "age": [None if k == 9 else k % 200 for k in range(n)],
                "later": pa.array([10**15] * n, pa.timestamp("s")),
                "view": pa.array([f"v{k % 70}" for k in range(n)], pa.string_view()),
            }
        ),
        "odd.parquet",
    )
    text = inspect(place / "odd.parquet")
    call = next(line for line in text.splitlines() if "multiepoch compare" in line)
    words = shlex.split(call)
    options = compare._parser().parse_args(words[words.index("compare") + 1 :])
    assert options.ids == ("user id", "words", "address", "view")
    assert options.day == "date" and "dense features: --dense rate\n" in text
    assert map_log("odd.parquet", compare.columns_of(options)).n == n


def test_inspect_says_what_it_takes_a_column_for(place):
    rng = np.random.default_rng(0)
    n = 2_000
    pq.write_table(
        pa.table(
            {
                "row": np.arange(n) * 7,
                "user_id": rng.normal(size=n),
                "word": ["a", "b"] * (n // 2),
                "price": rng.normal(size=n),
                "stamp": pa.array(np.arange(n) * 1_000_000).cast(pa.timestamp("us")),
                "is_buy": rng.integers(0, 2, n),
                "same": [3] * n,
            }
        ),
        "other.parquet",
    )
    lines = {
        line.split()[0]: line for line in inspect(place / "other.parquet").splitlines() if line
    }
    for name, kind in {
        "row": "-",
        "user_id": "-",
        "word": "id",
        "price": "dense",
        "stamp": "day",
        "is_buy": "label",
        "same": "-",
    }.items():
        assert lines[name].split()[1] == kind, lines[name]
    assert "an id must not be a float" in lines["user_id"]


def shop(n=3_000, seed=0):
    """A log of integers without telling suffixes, sorted by time over two months."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 300, n), rng.integers(0, 200, n)
    taste = rng.normal(size=(300, 2))[user] * rng.normal(size=(200, 2))[item]
    click = rng.random(n) < 1 / (1 + np.exp(-taste.sum(1)))
    when = np.datetime64("2024-01-01") + np.arange(n) * 60 // n
    return {
        "user": user,
        "movieId": item,
        "click": click.astype(int),
        "seen": (rng.random(n) < 0.9).astype(int),
        "day": 1 + (when - when.astype("datetime64[M]")).astype(int),
        "date": when.astype(str),
        "stars": 1 + 2 * click + rng.integers(0, 2, n),
        "seconds": np.where(click, rng.lognormal(3, 1, n), 0.0),
        "order": [f"o{k}" if one else None for k, one in enumerate(click)],
    }


def kinds(columns):
    guesses = look(pa.table(columns))
    return {g.name: g.kind for g in guesses}, {g.name: g.why for g in guesses}


def test_integers_named_after_things_are_ids_and_no_label_is():
    of, _ = kinds(shop())
    assert of["user"] == of["movieId"] == "id"
    assert of["click"] == "label" and of["seen"] == "-"


@pytest.mark.parametrize("name", ["user id", "User-ID", "item.id", "user_id"])
def test_ids_are_found_by_names_of_every_spelling(name):
    assert kinds({name: shop()["user"]})[0][name] == "id"


@pytest.mark.parametrize("name", ["lead_time", "watch time", "Play-Time"])
def test_a_duration_is_no_day(name):
    of, why = kinds({name: [f"{k % 700}" for k in range(3_000)]})
    assert of[name] == "dense", why


def test_whole_numbers_that_explain_more_as_codes_are_ids():
    rng = np.random.default_rng(0)
    player, age = rng.integers(0, 400, (2, 20_000))
    logit = rng.normal(size=400)[player] + age / 200 - 1
    click = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(int)
    of, why = kinds({"player": player, "age": age, "noise": age[::-1], "click": click})
    assert of == {"player": "id", "age": "dense", "noise": "dense", "click": "label"}
    assert "more of the entropy of 'click' as ids" in why["player"]


@pytest.mark.parametrize("n, k", [(1_000, 120), (1_000, 3_000), (3_000, 400)])
def test_amounts_are_no_ids_in_small_samples(n, k):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        amount = rng.integers(0, k, n)
        click = (rng.random(n) < 1 / (1 + np.exp(-(amount / k - 0.5)))).astype(int)
        assert kinds({"amount": amount, "click": click})[0]["amount"] == "dense", seed


@pytest.mark.parametrize("largest, first", [("user", "user"), ("shop", "shop")])
def test_the_id_that_is_sampled_by_comes_first(place, largest, first):
    n, rng = 3_000, np.random.default_rng(0)
    columns = {"season": [f"s{k % 4}" for k in range(n)], "tags": [f"t{k % 90}" for k in range(n)]}
    columns |= {"item_id": rng.integers(0, 50, n), f"{largest}_id": rng.integers(0, 900, n)}
    columns |= {"click": rng.integers(0, 2, n), "date": ["2024-01-01"] * n}
    pq.write_table(pa.table(columns), "first.parquet")
    assert f"--ids {first}_id,season,tags,item_id " in inspect(place / "first.parquet")


def test_a_column_that_almost_determines_a_label_is_a_leak():
    of, why = kinds(shop())
    assert of["stars"] == of["seconds"] == of["order"] == "leak"
    assert "of the entropy of 'click'" in why["stars"]
    honest = {k: v for k, v in shop().items() if k in ("user", "movieId", "click", "date")}
    assert kinds(honest)[0] == {"user": "id", "movieId": "id", "click": "label", "date": "day"}


def test_a_day_of_the_month_is_no_day_if_there_is_a_date():
    of, why = kinds(shop())
    assert of["date"] == "day" and of["day"] == "-" and "'date' has the date" in why["day"]
    alone = shop()
    del alone["date"]
    assert kinds(alone)[0]["day"] == "day"


def test_inspect_says_what_is_wrong_with_a_header_or_a_day(place):
    days = [f"{1 + k % 28}/{1 + k // 1500}/2024" for k in range(3_000)]
    of, why = kinds({" user": shop()["user"], "click ": shop()["click"], " date": days})
    assert of[" user"] == "id" and of["click "] == "label"
    assert of[" date"] == "-" and "write it as YYYY-MM-DD" in why[" date"]
    assert kinds({"date ": shop()["date"]})[0]["date "] == "day"
    rows = "\n".join(f"u{k % 90},{k % 3 // 2},2024-01-01" for k in range(2_000))
    (place / "bare.csv").write_text(rows)
    assert "the first line looks like data (u0, 0, 2024-01-01)" in inspect(place / "bare.csv")
    (place / "one.csv").write_text("user,click,day\n" + rows)
    text = inspect(place / "one.csv")
    assert "At least 3 days are needed" in text and "looks like data" not in text


def test_a_sample_covers_the_whole_log(place, monkeypatch):
    monkeypatch.setattr(inspecting, "ROWS", 500)
    pq.write_table(pa.table(shop()), "sorted.parquet", row_group_size=700)
    rows, n = sample([place / "sorted.parquet"])
    assert n == 3_000 and 250 <= len(rows) <= 500
    dates = rows["date"].to_pylist()
    assert dates == sorted(dates) and len(set(dates)) == 60
    assert len(sample([place / "sorted.parquet", place / "sorted.parquet"])[0]) <= 500


def test_the_cross_that_adds_is_proposed(place):
    n, rng = 20_000, np.random.default_rng(0)
    ids = {f"{name}_id": rng.integers(0, 30, n) for name in ("user", "shop", "item")}
    taste = rng.normal(size=(30, 30))[ids["shop_id"], ids["item_id"]]
    click = (rng.random(n) < 1 / (1 + np.exp(-2 * taste))).astype(int)
    columns = {**ids, "click": click, "date": ["2024-01-01"] * n}
    pq.write_table(pa.table(columns), "cross.parquet")
    assert "--cross shop_id,item_id" in inspect(place / "cross.parquet")
    columns["click"] = rng.integers(0, 2, n)
    pq.write_table(pa.table(columns), "noise.parquet")
    assert "--cross" not in inspect(place / "noise.parquet")


def test_a_function_of_a_column_is_no_cross():
    n, rng = 20_000, np.random.default_rng(0)
    product, shop = rng.integers(0, 3_000, n), rng.integers(0, 40, 3_000)
    click = rng.random(n) < 1 / (1 + np.exp(-2 * rng.normal(size=3_000)[product]))
    fit, labels = np.arange(n) % 2 == 0, click.astype(float)
    assert cross_gain(product, np.zeros(n, int), labels, fit) == 0
    assert cross_gain(shop[product], product, labels, fit) == 0
    nearly = np.where(rng.random(n) < 0.01, 1, 0)  # a second value, and nothing to learn of it
    assert cross_gain(product, nearly, labels, fit) < 1e-3
    noise = rng.integers(0, 3, n)
    assert cross_gain(product, noise, labels, fit) < 1e-3


def test_inspect_shows_the_last_days_and_proposes_how_many_to_test_on(place):
    rng, sizes = np.random.default_rng(0), [9_000] * 5 + [12]
    days = np.repeat(np.datetime64("2024-02-27") + np.arange(6), sizes)
    n = len(days)
    columns = {"user_id": rng.integers(0, 900, n), "item_id": rng.integers(0, 200, n)}
    columns |= {"gekauft": rng.integers(0, 2, n), "Datum": days.astype(str)}
    columns |= {"ja": np.where(rng.random(n) < 0.3, "yes", "no")}
    pq.write_table(pa.table(columns), "shop.parquet")
    of, _ = kinds(columns)
    assert of["Datum"] == "day" and of["gekauft"] == of["ja"] == "label"
    text = inspect(place / "shop.parquet")
    assert "2024-03-01 9,000, 2024-03-02 9,000, 2024-03-03 12." in text
    assert "--test-days 2," in text


def test_compare_warns_of_rows_twice_and_of_a_day_of_the_month_that_starts_over(place):
    table = pq.read_table("log.parquet")
    columns = Columns(("user", "item"), ("click",), "day", ("price",))
    for name, one in {"once": table, "twice": pa.concat_tables([table, table])}.items():
        pq.write_table(one, f"{name}.parquet")
        mapped = map_log(f"{name}.parquet", columns)
        assert bool(plan.repeated(mapped.read(slice(None)))) == (name == "twice")
    frequent = Columns(("user", "item"), ("click",), "day")  # repeats by chance alone
    assert plan.repeated(map_log("once.parquet", frequent).read(slice(None))) == []
    for name, first, warned in (("month", 20, True), ("whole", 0, False)):
        day = 1 + (first + np.arange(len(table)) * 30 // len(table)) % 30
        odd = table.set_column(table.column_names.index("day"), "day", pa.array(day))
        pq.write_table(odd, f"{name}.parquet")
        found = plan.odd_ids(map_log(f"{name}.parquet", columns))
        assert ["start over once" in one for one in found] == [True] * warned


def test_compare_warns_of_a_leak(place, monkeypatch, capsys):
    table = pq.read_table("log.parquet")
    table = table.append_column("bought", pa.array([f"b{v}" for v in table["buy"].to_pylist()]))
    pq.write_table(table, "leak.parquet")
    call = ["user,item,bought" if word == "user,item" else word for word in CALL[:-6]]
    call = [*call[:-2], "--methods", "MEDA", "--seeds", "2", "--epochs", "2", "--batch-size", "128"]
    assert main(["compare", "leak.parquet", *call]) == 0
    warning = "Warning: column 'bought' explains"
    assert warning in capsys.readouterr().out
    assert any(one.startswith(warning) for one in report_of(place)["warnings"])
    assert warning in (place / "report" / "index.html").read_text().replace("&#39;", "'")


def test_tail_rewind_is_said_to_be_meda_if_nearly_all_rows_are_rare(place, compared):
    found = report_of(compared)
    threshold, rows, lookups = found["tail"]
    log = pq.read_table("log.parquet")
    assert 0 < rows <= 1 and 0 < lookups <= 1 and threshold in (20, 100)
    said = "Tail rewind is nearly MEDA here"
    assert (said in report.text(found)) == (lookups >= 0.8)
    assert said in report.text(found | {"tail": [100, 0.99, 0.9]})
    assert said not in report.text(found | {"tail": [100, 0.99, 0.5]})
    columns = Columns(("user", "item"), ("click",), "day")
    mapped = map_log("log.parquet", columns)
    setup = run.Setup(str(mapped.folder), columns, plan.split(mapped, "log"), 2, 64)
    parts = run.read_parts(setup)
    users, items = (np.unique(log[k][:900], return_counts=True)[1] for k in ("user", "item"))
    both = np.concatenate([users, items])
    assert parts.below(20) == pytest.approx(
        ((both < 20).mean(), both[both < 20].sum() / both.sum()), abs=1e-6
    )


def test_figures_do_not_take_the_callers_style(compared):
    found = report_of(compared)
    alone = figures.curves(found, "click")
    with figures.plt.style.context("dark_background"):
        assert figures.curves(found, "click") == alone


def test_bands_are_whole_from_the_second_quarter_on(compared, monkeypatch):
    found, drawn = report_of(compared), []
    monkeypatch.setattr(figures, "_svg", lambda figure, alt: drawn.append(figure))
    figures.curves(found, "click")
    low, high = drawn[0].axes[0].get_ylim()
    for m in found["methods"]:
        for epoch, *values in m["curves"]["logloss"]["click"]:
            if epoch > 0.25:
                _, bottom, top = figures.interval(values)
                assert low < bottom and top < high


def test_a_group_of_little_weight_has_its_own_mean():
    means = record._means(np.array([[0.06, 0.0, 8.0]]), np.array([0.1, 0.0, 4.0]))
    assert means.tolist() == [[pytest.approx(0.6), 0.0, 2.0]]


def test_a_cell_has_the_colour_of_its_verdict_and_keeps_its_interval_whole():
    tones = {"rise": "bad", "slight rise": "bad", "fall": "good", "slight fall": "good"}
    ends = [(1, 1, 2), (0.1, 0.05, 0.2), (0, -0.1, 0.1), (-1, -2, 0.1), (0, -9, 9)]
    for mean, low, high in [*ends, (-0.1, -0.2, -0.05), (-1, -2, -1)]:
        estimate = judge.Estimate(mean, low, high)
        for use, word in enumerate(WORDS[estimate.kind]):
            cell = report._worded(estimate, use)
            assert cell.tone == tones.get(estimate.kind, "")
            assert report._unbroken(cell).split(" ", 1)[1] == word
    assert report._unbroken("tail rewind") == "tail rewind"


def test_text_and_page_come_from_the_record_alone(compared):
    found = report_of(compared)
    assert report.text(found) == (compared / "report" / "report.txt").read_text()
    assert all(sentence.split(":")[0] in report.page(found) for sentence in found["headline"])
