"""The page of recipes, without the training libraries; `make test-clients` runs its code."""

import difflib
import json

import pytest

from tools import recipes


@pytest.mark.parametrize("recipe", recipes.recipes(), ids=lambda recipe: recipe.client)
def test_a_recipe_takes_at_most_five_lines_and_the_page_marks_them(recipe):
    before, after = recipe.before.splitlines(), recipe.after.splitlines()
    same = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    kept = {block.b + k for block in same for k in range(block.size)}
    assert recipe.marked == tuple(k + 1 for k, line in enumerate(after) if line and k not in kept)
    assert len(recipe.marked) <= 5
    for code in (recipe.setup, recipe.before, recipe.after, recipe.repeat, *recipe.more):
        compile(code, "book/recipes.md", "exec")


def test_the_table_has_a_row_for_each_client_and_says_how_it_was_measured(tmp_path):
    runs = [
        {"client": recipe.client, "kind": kind, "seed": seed, "lr": 0.01, "multiple": 3}
        | {"loss": loss, "seconds": seconds}
        for recipe in recipes.recipes()
        for seed in (0, 1)
        for kind, loss, seconds in (("default", 0.4, 8), ("tuned", 0.3, 8), ("ours", 0.29, 2))
    ]
    about = dict.fromkeys(
        ["rates", "multiples", "machine", "threads", "torch", "date", "commit"], "some"
    )
    about |= {"seeds": [0, 1], "n": 1_000, "rows": 2_000, "bayes": 0.2, "constant": 0.5}
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "clients.json").write_text(json.dumps({"about": about, "runs": runs}))
    recipes.generate(tmp_path, tmp_path)
    text = (tmp_path / "recipes.md").read_text()
    for recipe in recipes.recipes():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {recipe.client} ")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == str(len(recipe.marked))
        assert cells[2:5] == ["0.4000 (0.01)", "0.3000 (0.01)", "0.2900 (0.01, 0.03)"]
        assert cells[5] == "-3.33 [-3.33, -3.33]"
        assert cells[-3:] == ["8.0", "2.0", "4.0 [4.0, 4.0]"]
    assert "the first is so for 0 of 7 clients, and the second for 7." in text
