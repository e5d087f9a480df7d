"""Every quantity that a notebook records is as in the reference."""

import pytest
from tabulate import tabulate

from tests.regression.compare import compare
from tests.regression.run import run


@pytest.mark.timeout(0)
def test_is_as_in_the_reference(name, pytestconfig):
    root, profile = pytestconfig.rootpath, pytestconfig.getoption("profile")
    notebook = root / "notebooks" / f"{name}.ipynb"
    if not notebook.exists():
        pytest.fail("notebook gone: it is in the reference; record the reference anew.", False)
    outcome = run(notebook, root, root / "regression" / profile, {"profile": profile})
    rows = compare(outcome, pytestconfig.reference)
    print(tabulate(rows, headers="keys"), outcome.details, sep="\n")
    if failed := [f"{row.quantity}: {row.wrong}" for row in rows if row.wrong]:
        pytest.fail("\n".join([*failed, f"The executed notebook: {outcome.path}"]), False)
