import io
import json
import os
import re
import shlex
import sys
import types
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup

import multiepoch_compare
from multiepoch_compare import command as compare
from multiepoch_compare import figures, outlook, output, plan, record, report, run
from multiepoch_compare import inspect as inspecting
from multiepoch_compare.__main__ import main
from multiepoch_compare.inspect import inspect, look, sample
from multiepoch_compare.readers import Columns, read_log
from multiepoch_lab.data import DataError
from multiepoch_lab.data.kuairand import PACKAGED
from multiepoch_lab.train import NonFiniteLoss

pytestmark = pytest.mark.slow

CALL = ["--ids", "user,item", "--labels", "click,buy", "--day", "day", "--dense", "price"]
CALL += ["--cross", "user,item", "--seeds", "2", "--epochs", "2", "--batch-size", "128"]
COLUMNS = Columns(("user", "item"), ("click",), "day")


def prepare(folder, patch):
    """Goes into a folder with a small log; two trials a line, and a verdict on few ones."""
    patch.chdir(folder)
    every = plan.trials
    patch.setattr(plan, "trials", lambda epochs, methods=(): every(epochs, methods, 2))
    patch.setattr(outlook, "LEAST_ONES", dict.fromkeys(plan.PARTS, 1))
    patch.setattr(outlook, "COARSEST", float("inf"))
    patch.setattr(outlook, "DRIFT", float("inf"))
    patch.setattr(os, "cpu_count", lambda: 1)
    rng = np.random.default_rng(0)
    n = 1_500
    user, item = rng.integers(0, 60, n), rng.integers(0, 40, n)
    p = 1 / (1 + np.exp(-rng.normal(size=60)[user] - rng.normal(size=40)[item]))
    columns = {"user": [f"u{k}" for k in user], "item": item}
    columns |= {"click": (rng.random(n) < p).astype(int), "buy": (rng.random(n) < 0.3 * p) + 0}
    columns |= {"price": rng.lognormal(size=n), "day": 20240101 + np.arange(n) * 5 // n}
    pq.write_table(pa.table(columns), folder / "log.parquet")


@pytest.fixture
def place(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with the report of CALL by every line, which no test changes."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        prepare(folder, patch)
        assert main(["compare", "log.parquet", *CALL]) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


def report_of(place, name="report"):
    return record.loads((place / name / "report.json").read_text())


def without_times(found):
    """A report without what differs from run to run."""
    left_out = ("seconds", "cpu_seconds", "date", "call", "machine")
    found = {k: v for k, v in found.items() if k not in left_out}
    found["methods"] = [
        {k: v for k, v in m.items() if k != "seconds_an_epoch"} for m in found["methods"]
    ]
    return found


def test_resets_are_searched_around_the_best_rates_of_one_epoch_of_their_rule():
    first, *others = plan.trials(3)[plan.ADAGRAD]
    steps = sorted({round(np.log10(one.embedding_lr), 3) for one in (first, *others)})
    assert np.diff(steps) == pytest.approx([0.5] * 4), "half decades"
    found = plan.around(first, 1e-4, 3)
    assert list(found) == [plan.ADAGRAD, plan.PAIR, plan.MEDA, plan.TAIL, plan.ENDS, plan.DROPPED]
    for label, several in found.items():
        assert {trial.rule for trial in several} == {"rowwise_adagrad"}
        assert {trial.label for trial in several} == {label}
        assert 1e-4 in {trial.eps for trial in several}
    assert {one.method for one in found[plan.ENDS]} == {"meda", "tail_rewind"}
    assert plan.lines(["FAL", plan.ENDS]) == [plan.ADAGRAD, plan.MEDA, plan.TAIL, plan.ENDS, "FAL"]


def test_no_trial_is_tried_twice_and_plain_has_one_rate():
    assert list(plan.trials(2, ["MEDA", "additive"])) == ["plain", plan.ADAGRAD, "additive"]
    for budget in (2, 6):
        for label, several in plan.trials(2, budget=budget).items():
            assert 2 <= len(several) == len(set(several)) <= budget
            assert {t.label for t in several} == {label}
            assert all((t.dense_lr == t.embedding_lr) == (label == "plain") for t in several)


def test_a_first_epoch_is_trained_once_and_each_line_serves_its_own(place, monkeypatch):
    log = read_log([Path("log.parquet")], COLUMNS)
    parts = run.make_parts(log, split := plan.split(log, "log", 100))
    run.share_parts(parts, place / "parts")
    setup = run.Setup("log", split, 64, str(place / "parts"))
    begun = []
    epoch = run.Model.epoch

    def count(self, index, result=None):
        begun.append(index)
        epoch(self, index, result)

    monkeypatch.setattr(run.Model, "epoch", count)
    monkeypatch.setattr(run, "WORSE", float("inf"))
    best = plan.Trial(plan.ADAGRAD, "plain", 1e-3, 1e-1, rule="rowwise_adagrad", epochs=3)
    found = plan.around(best, 1e-4, 3)
    trials = [best, *(found[k][0] for k in (plan.MEDA, plan.TAIL, plan.ENDS, plan.PAIR))]
    results = run.execute(trials, setup)
    # Three ways to go on from one first epoch (the mean of ends follows MEDA), and a second model.
    assert sorted(begun) == [0, 0, 1, 1, 1, 2, 2, 2]
    sizes = parts.sizes()["blocks"]
    alone = [run.execute([one], setup)[0] for one in trials]
    for trial, result, own in zip(trials, results, alone):
        assert np.allclose(result["blocks"], own["blocks"], rtol=1e-5), trial
        assert len(result["blocks"]) == trial.epochs
        ends = [
            value
            for part, at, _, metric, value in result["points"]
            if (part, metric) == ("test", "logloss") and at == int(at)
        ]
        mine = np.array(result["blocks"]).sum(axis=(1, 2)) / sizes.sum()
        assert np.allclose(mine, ends, atol=1e-5), trial
    _, meda, _, ends, pair = (np.array(one["blocks"]).sum(axis=(1, 2)) for one in results)
    assert ends[1] == pytest.approx(meda[1]) and ends[2] != pytest.approx(meda[2])
    assert len(pair) == 1 and pair[0] < meda[0], "two models predict better than one"


def test_a_call_gives_a_page_a_record_and_a_table(compared):
    printed, found = (compared / "printed.txt").read_text(), report_of(compared)
    dropped = f"{plan.ADAGRAD} without user_x_item"
    assert {m["label"] for m in found["methods"]} == {
        *(plan.PLAIN, plan.REPEATED, plan.ADAGRAD, plan.PAIR, plan.MEDA, plan.TAIL),
        *(plan.ENDS, dropped, plan.ADDITIVE),
    }
    for m in found["methods"]:
        assert (m["epochs"] == 1) == (m["label"] in (*plan.ONCE, dropped))
        by_epoch = np.array(m["logloss_by_epoch"])  # (epochs, objectives), as the curves end
        curves = [m["curves"]["logloss"][name] for name in ("click", "buy")]
        ends = [[np.mean(v) for at, *v in one if at == int(at)] for one in curves]
        assert np.allclose(by_epoch.T, ends, atol=1e-5) and m["label"] in printed
    assert found["data"]["sizes"]["train"] + found["data"]["sizes"]["test"] < 1_500
    assert all(sentence in printed for sentence in found["headline"])
    text = (compared / "report" / "report.txt").read_text()
    assert text in printed and text == report.text(found)
    assert all(sentence.split(":")[0] in report.page(found) for sentence in found["headline"])
    assert printed.index("Half an interval is likely") < printed.index("tuning:")
    assert re.search(r"\[1/\d+\] .* about \d+ (s|min) left", printed)


def test_the_lines_of_code_of_a_report_run(compared):
    found = report_of(compared)
    for m in found["methods"]:
        lines = report.code(found | {"advised": [m["label"], m["epochs"]]})
        compile("\n".join(lines), "report", "exec")
        assert ("repeat" in lines[-1]) == (m["trial"]["method"] != "plain")
    assert report.code(found | {"advised": None}) == []


def test_the_page_needs_no_other_file_and_describes_its_figures(compared):
    text = (compared / "report" / "index.html").read_text()
    soup = BeautifulSoup(text, "html.parser")
    assert not soup.find_all(["script", "link", "img", "iframe"])
    assert all(re.match("#|https://", a["href"]) for a in soup.find_all("a"))
    pictures = soup.find_all("svg")
    assert pictures and all(p["aria-label"] for p in pictures)
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and soup.find("meta", attrs={"name": "viewport"})
    assert report_of(compared)["headline"][0] in " ".join(soup.text.split())


def test_no_two_lines_of_a_figure_share_a_colour(compared, monkeypatch):
    found, drawn = report_of(compared), []
    monkeypatch.setattr(figures, "_svg", lambda figure, alt: drawn.append(figure))
    figures.curves(found, "click")
    looks = [(line.get_color(), str(line.get_linestyle())) for line in drawn[0].axes[0].get_lines()]
    labelled = [
        line.get_label()
        for line in drawn[0].axes[0].get_lines()
        if not line.get_label().startswith("_")
    ]
    assert len({color for color, _ in looks}) >= len(labelled)


def test_an_interrupted_call_resumes(place, capsys, monkeypatch):
    assert main(["compare", "log.parquet", *CALL, "--out", "whole"]) == 0
    execute, done = run.execute, []

    def stop_at_the_fifth(trials, setup):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(trials)
        return execute(trials, setup)

    monkeypatch.setattr(run, "execute", stop_at_the_fifth)
    assert main(["compare", "log.parquet", *CALL, "--out", "stopped"]) == 130
    assert "repeat the command to resume" in capsys.readouterr().err
    assert len(list((place / "stopped" / "trials").iterdir())) == 4
    assert not (place / "stopped" / "lock").exists()
    monkeypatch.setattr(run, "execute", execute)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # nor do two processes change the report
    assert main(["compare", "log.parquet", *CALL, "--out", "stopped"]) == 0
    assert re.search(r"4 of \d+ runs are kept from before", capsys.readouterr().out)
    assert without_times(report_of(place, "stopped")) == without_times(report_of(place, "whole"))


def test_any_column_name_will_do_and_the_record_is_valid_json(place):
    names = ["type", "user.id", "$half_$", "buy", "price", "day"]
    pq.write_table(pq.read_table("log.parquet").rename_columns(names), "names.parquet")
    call = ["--ids", "type,user.id", "--labels", "$half_$", "--day", "day", "--seeds", "2"]
    call += ["--epochs", "2", "--batch-size", "256", "--methods", "MEDA"]
    assert main(["compare", "names.parquet", *call]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads((place / "report" / "report.json").read_text(), parse_constant=refuse)


def test_processes_share_the_parts_by_a_file_that_is_gone_at_the_end(place, capsys, monkeypatch):
    seen, execute = [], run.execute

    def spy(trials, setup):
        seen.append((place / "report" / output.SHARED).exists())
        return execute(trials, setup)

    monkeypatch.setattr(run, "execute", spy)
    (place / "report").mkdir()
    (place / "report" / output.SHARED).write_text("of a call that was killed")
    few = [*CALL, "--methods", "MEDA"]
    assert main(["compare", "log.parquet", *few]) == 0
    assert all(seen) and not (place / "report" / output.SHARED).exists()
    assert run.read_parts.cache_info().currsize == 0

    @contextmanager
    def full(path):
        yield Path("/dev/full")

    monkeypatch.setattr(run, "atomic_write", full)
    assert main(["compare", "log.parquet", *few, "--out", "other"]) == 2
    said = capsys.readouterr().err
    assert "other: the disk is full; free some space" in said and said.count("\n") == 1


def test_a_killed_worker_gives_one_sentence(place, capsys, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr(compare, "tune_and_run", killed)
    assert main(["compare", "log.parquet", *CALL]) == 2
    said = capsys.readouterr().err
    assert "a worker process was killed" in said and said.count("\n") == 1


def test_a_rate_that_diverges_is_no_candidate_and_a_line_that_always_does_is_refused(
    place, capsys, monkeypatch
):
    build, few = run.Model.__init__, [*CALL, "--methods", "MEDA"]
    worst = plan.trials(2)["plain"][:1]

    def diverges(self, trial, *args):
        build(self, trial, *args)
        if not worst or trial.embedding_lr == worst[0].embedding_lr:
            self.epoch = not_finite

    def not_finite(*_):
        raise NonFiniteLoss

    monkeypatch.setattr(run.Model, "__init__", diverges)
    assert main(["compare", "log.parquet", *few]) == 0
    for m in report_of(place)["methods"]:
        assert m["trial"]["embedding_lr"] != worst[0].embedding_lr
    worst.clear()
    assert main(["compare", "log.parquet", *few, "--out", "none"]) == 2
    said = capsys.readouterr().err
    assert " diverges at every learning rate" in said and said.count("\n") == 1


def test_another_error_is_not_taken_for_a_divergence(place, monkeypatch):
    def fails(trials, setup):
        raise RuntimeError("the loss is not finite")

    monkeypatch.setattr(run, "execute", fails)
    with pytest.raises(RuntimeError):
        main(["compare", "log.parquet", *CALL])


def test_several_days_can_be_tested_on(place):
    log = read_log([Path("log.parquet")], COLUMNS)
    assert plan.split(log, "log", 1, n_test=2).ends == ((0, 0), (1, 2), (3, 4))
    with pytest.raises(ValueError, match=r"has 5 days, .* at least 7 are needed"):
        plan.split(log, "log", 1, n_test=3)


@pytest.mark.parametrize(
    "counts, days",
    [
        ([20_000] * 7, (1, 1)),
        ([20_000] * 6 + [12], (1, 2)),  # the last day is nearly empty
        ([20_000] * 5 + [44, 46], (1, 3)),
        ([20_000] * 3 + [536], (1, 2)),
        ([50] * 31, (7, 7)),  # none are enough: as many as leave half for training
        ([20_000, 20_000, 12], (1, 1)),  # no other choice
        ([1, 2], (1, 1)),
    ],
)
def test_as_many_days_are_tested_on_as_a_verdict_needs(counts, days):
    assert plan.days_to_test(np.array(counts), outlook.rows_needed([0.5])) == days
    assert outlook.rows_needed([0.5]) < outlook.rows_needed([0.1])


def test_blocks_are_of_users_or_of_impressions_if_a_column_has_too_few_values():
    users, few = np.random.default_rng(0).integers(0, 60, 1_500), np.ones(1_500, int)
    for columns, whole in (([users], True), ([few, users], True), ([few], False)):
        block = outlook.block_of(columns, 1_500)
        assert np.bincount(block).max() <= 1_500 * outlook.LARGEST_BLOCK
        if whole:
            assert len({*zip(users, block)}) == len(np.unique(users)), "a user is in one block"


def test_dense_features_are_scaled_by_the_training_days(place):
    log = read_log([Path("log.parquet")], Columns(("user",), ("click",), "day", ("price",)))
    scaled, scale = plan.prepared(log.read_days(0, 2), None)
    assert scaled.dense.mean().item() == pytest.approx(0, abs=1e-5)
    assert scaled.dense.std(correction=0).item() == pytest.approx(1, abs=0.05)
    later, again = plan.prepared(log.read_days(3, 4), scale)
    raw = (log.read_days(3, 4).dense.numpy() - scale[1]) / scale[2]
    inside = np.abs(raw) < 10
    assert again is scale and np.allclose(later.dense.numpy()[inside], raw[inside], atol=1e-4)


@pytest.mark.parametrize(
    "n, expected", [(10, 1), (399, 1), (900, 4), (75_000, 256), (198_895, 512), (10**7, 2_048)]
)
def test_the_batch_leaves_200_steps_an_epoch(n, expected):
    assert plan.batch_size(n) == expected
    assert n < plan.LEAST_STEPS or n // expected >= plan.LEAST_STEPS


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
    assert {*table.index} == {"plain", plan.REPEATED, plan.ADAGRAD, "MEDA"}
    for label, row in table.iterrows():
        (m,) = (m for m in found["methods"] if m["label"] == label)
        assert row["logloss click"] == m["logloss_by_epoch"][m["epochs"] - 1][0]
        assert row["vs plain, mean"] == m["against_plain"].mean
    assert drawn[0].data.count("<svg") == 1
    for words, wrong in {
        "no option 'idz'": {"idz": ["user"]},
        "invalid int value: '2.0'": options | {"epochs": 2.0},
    }.items():
        with pytest.raises(DataError, match=words):
            multiepoch_compare.compare(frame, out="wrong", **wrong)
    with pytest.raises(DataError, match=r"DataFrame: .*; name each column, and give it values of"):
        multiepoch_compare.compare(frame.assign(price=["a", *range(len(frame) - 1)]), **options)


def test_compare_warns_of_a_leak(place, capsys):
    table = pq.read_table("log.parquet")
    table = table.append_column("bought", pa.array([f"b{v}" for v in table["buy"].to_pylist()]))
    pq.write_table(table, "leak.parquet")
    call = ["--ids", "user,item,bought", *CALL[2:], "--methods", "MEDA"]
    assert main(["compare", "leak.parquet", *call]) == 0
    warning = "Warning: column 'bought' explains"
    assert warning in capsys.readouterr().out
    assert any(one.startswith(warning) for one in report_of(place)["warnings"])


# inspect ------------------------------------------------------------------------------------------


def test_inspect_finds_the_columns_and_prints_a_call_that_is_right(place):
    text = inspect(PACKAGED)
    assert "multiepoch compare" in text, text
    call = next(line for line in text.splitlines() if "multiepoch compare" in line)
    words = call.split()
    options = compare._parser().parse_args(words[words.index("compare") + 1 :])
    assert {"user_id", "video_id", "author_id"} <= set(options.ids)
    assert options.labels[:2] == ("is_click", "long_view") and options.day == "date"
    columns = compare.columns_of(options)
    assert read_log([PACKAGED], columns, 0.01).n < 10_000


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
    assert "multiepoch compare" in text, text
    call = next(line for line in text.splitlines() if "multiepoch compare" in line)
    words = shlex.split(call)
    options = compare._parser().parse_args(words[words.index("compare") + 1 :])
    assert options.ids == ("user id", "words", "address", "view")
    assert options.day == "date" and "dense features: --dense rate\n" in text
    assert read_log([place / "odd.parquet"], compare.columns_of(options)).n == n


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
    assert "an id must be whole" in lines["user_id"]


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
    columns |= {"click": rng.integers(0, 2, n), "date": shop()["date"]}
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
    assert "at least 3 are needed" in text and "looks like data" not in text


def test_a_sample_covers_the_whole_log(place, monkeypatch):
    monkeypatch.setattr(inspecting, "ROWS", 500)
    pq.write_table(pa.table(shop()), "sorted.parquet", row_group_size=700)
    rows, n, _ = sample([place / "sorted.parquet"])
    assert n == 3_000 and 250 <= len(rows) <= 500
    dates = rows["date"].to_pylist()
    assert dates == sorted(dates) and len(set(dates)) == 60
    assert len(sample([place / "sorted.parquet", place / "sorted.parquet"])[0]) <= 500
