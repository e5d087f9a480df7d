"""FAL's power scale against the rate that FBGEMM's counters give a row."""

import pytest
import torch

from multiepoch import FrequencyAdaptiveLR


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0, 2.0])
def test_fal_with_a_floor_is_the_tail_id_decrease_of_fbgemm(exponent):
    """A row of `count` steps of `most`: FBGEMM adds 1 to both, and clamps to [.1, 1]."""
    count = torch.randint(1, 10_000, (1000,), generator=torch.Generator().manual_seed(0))
    most = int(count.max())
    fbgemm = [min(max(((c + 1) / (most + 1)) ** exponent, 0.1), 1.0) for c in count.tolist()]
    fal = FrequencyAdaptiveLR("power", "steps", exponent=exponent)
    found = fal.factor((count + 1).int(), torch.tensor(most + 1, dtype=torch.int32), epoch=0)
    torch.testing.assert_close(
        found.clamp(min=0.1).double(), torch.tensor(fbgemm).double(), rtol=1e-6, atol=1e-6
    )
    assert exponent < 0.5 or float(found.min()) < 0.1  # the floor acts
