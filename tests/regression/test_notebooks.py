"""Every quantity that a notebook records is as in the reference."""

import pytest
from tabulate import tabulate

from reproduction.runs import profile as profile_named
from tests.regression.compare import MOVED, compare
from tests.regression.reference import about
from tests.regression.run import run


def test_is_as_in_the_reference(name, pytestconfig, request):
    facts = request.node.user_properties  # for the summary
    facts.append(("notebook", name))
    root, reference = pytestconfig.rootpath, pytestconfig.reference
    profile = pytestconfig.getoption("profile")
    here = about(profile, profile_named(profile).seeds)
    elsewhere = any(here[what] != reference["about"].get(what) for what in ("machine", "torch"))
    notebook = root / "notebooks" / f"{name}.ipynb"
    if not notebook.exists():
        pytest.fail("notebook gone: it is in the reference; record the reference anew.", False)

    outcome = run(notebook, root, root / "regression" / profile, {"profile": profile})
    rows = compare(outcome, reference, elsewhere)
    failed = [row for row in rows if not row.ok]
    facts += [("quantities", len(rows)), ("failures", len(failed))]
    facts.append(("only numbers moved", all(row.verdict in MOVED for row in failed)))
    print(tabulate(rows, headers="keys"), outcome.details, sep="\n")
    if failed:
        pytest.fail("\n".join([*map(str, failed), f"The executed notebook: {outcome.path}"]), False)
