"""The table of claims by setting, on the committed records."""

from reproduction import judge, records
from tools import settings


def test_each_line_is_of_a_claim_in_force_and_has_a_value_in_each_setting():
    known = settings.settings(records.folder())
    assert {at.rule for at in known} == {"row-wise Adagrad", "Adam"}
    for id, quantity, _, _, values in settings.LINES:
        assert judge.claim(id)
        for source in settings.dose.SPARSEST:
            found = [values(at, source) for at in known]
            assert found[0] is not None and len(found[0]) == 8, (quantity, source)
