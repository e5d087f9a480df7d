"""The benchmarks run in a size that takes seconds and write what book/cost.md reads."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import bench as benchmark
from benchmarks import end_to_end, gpu_steps, peers, steps, timing
from multiepoch.optim.rules import RULES
from reproduction import judge
from tools import cost

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder as bench.py leaves it."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "bench").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "FLUSH", 2**12)
        for name, script in {"steps": steps, "end_to_end": end_to_end}.items():
            measured = {"about": timing.about(), **script.measure(script.TINY)}
            (folder / "bench" / f"{name}.json").write_text(json.dumps(measured))
    return folder


@pytest.fixture
def bench(results) -> dict:
    return cost.load(results / "bench")


def test_every_contestant_is_timed_in_every_repeat(bench):
    found, tiny = bench["steps"], steps.TINY
    groups = [found["step"], *found["lookup"].values(), *found["size"].values()]
    assert {*RULES, *(f"{rule}, eager" for rule in RULES), *steps.TORCH} == set(groups[0]["cold"])
    assert set(found["lookup"]) == {str(n) for n in tiny.rows}
    assert str(tiny.largest) in found["size"]["rowwise_adagrad"]["cold"]
    groups += [group for by_seed in found["extra"].values() for group in by_seed.values()]
    for group in groups:
        assert list(group) == ["warm", "cold"]
        for times in group.values():
            assert all(len(ms) == tiny.repeats and min(ms) > 0 for ms in times.values())
    users = bench["end_to_end"]["examples"]
    assert list(users) == [str(n) for n in end_to_end.TINY.users]
    assert all(min(rates["ours"]) > 0 for rates in users.values())


def test_the_memory_of_fal_is_its_counter(bench):
    found = bench["steps"]["bytes"]
    assert found["adam"] - found["SparseAdam"] == pytest.approx(0, abs=0.01)
    for rule in RULES:
        assert found[f"{rule} + FAL"] - found[rule] == pytest.approx(4, abs=0.01)


def test_a_larger_table_has_the_same_lookups_in_more_places():
    small, large = (timing.batches(2, 300, n, seed=0) for n in (1_000, 1_000_000))
    patterns = [ids.unique(return_inverse=True, return_counts=True) for ids in (*small, *large)]
    assert len({len(rows) for rows, _, _ in patterns}) == 1
    assert len({tuple(sorted(counts.tolist())) for _, _, counts in patterns}) == 1
    assert large[0].max() >= 1_000 > small[0].max()
    (rows, _, counts), (others, *_) = patterns[2:]
    common = rows[torch.isin(rows, others)]
    assert rows[counts.argmax()] in common and len(common) < len(rows) / 10


def test_without_fbgemm_nothing_is_timed_and_two_lines_say_why(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    monkeypatch.setattr(peers, "python", lambda: sys.executable)
    monkeypatch.setattr(peers, "missing", lambda python: ["fbgemm-gpu-cpu==1.10.*"])
    monkeypatch.setattr(benchmark, "run", lambda *_: pytest.fail("it was timed"))
    assert benchmark.main() == 1
    said = capsys.readouterr().err
    assert "no fbgemm-gpu-cpu==1.10.* for torch" in said and "--no-peers" in said
    assert said.count("\n") == 2


@pytest.mark.parametrize("option", ["--no-peers", "--tiny"])
def test_a_record_of_less_does_not_replace_that_of_the_book(monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["bench.py", option])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "need --out" in capsys.readouterr().err


def test_the_page_is_made_of_the_records(results, tmp_path):
    cost.generate(results, tmp_path, tmp_path)
    page = (Path(__file__).parents[1] / "book/cost.md").read_text()
    for name in cost.TABLES:
        assert (tmp_path / f"cost-{name}.md").read_text().startswith("|")
        assert f"_generated/cost-{name}.md" in page
    assert (tmp_path / "cost-size.png").stat().st_size > 1_000


def test_the_rule_to_which_fal_adds_most_decides_the_claim(bench):
    for rule, seconds in zip(RULES, (1.01, 1.02, 1.04, 1.03)):
        for by_caches in bench["steps"]["extra"][rule].values():
            ms = by_caches["cold"]
            ms["plain"], ms["FAL"] = [1.0, 2.0, 3.0], [seconds, 2 * seconds, 4.0]
    time, memory = judge.weigh(judge.claim("C9"), cost.evidence(bench))
    assert time.estimate == pytest.approx(4.0)
    assert time.seeds == tuple(range(steps.TINY.seeds))
    assert memory.estimate == pytest.approx(3.125, abs=0.01)


def test_a_gpu_that_is_too_small_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    def measure(rows, device, turns):
        if rows > 10:
            raise torch.cuda.OutOfMemoryError
        return {"one": 1.0}

    monkeypatch.setattr(gpu_steps, "measure", measure)
    call = ["gpu_steps", "--device", "cpu", "--rows", "10", "20", "--out", str(tmp_path / "a.json")]
    monkeypatch.setattr(sys, "argv", call)
    gpu_steps.main()
    assert json.loads((tmp_path / "a.json").read_text())["microseconds"] == {"10": {"one": 1.0}}
    assert "give fewer --rows" in capsys.readouterr().out
