"""Checks an installed wheel of multiepoch: its contents, and that its first step is fused.

python check_wheel.py [--pure]     --pure: a wheel without kernels, whose step is not fused
"""

import sys
from importlib.metadata import distribution

import torch
from torch import nn

from multiepoch.optim import SparseOptimizer

about = distribution("multiepoch")
assert about.metadata["License-Expression"] == "MIT"
(licence,) = [path for path in about.files if path.name == "LICENSE"]
assert "MIT License" in licence.read_text()

packages = {path.parts[0] for path in about.files if path.suffix == ".py"}
assert packages == {"multiepoch", "multiepoch_compare", "multiepoch_lab"}, packages

wanted = "not fused" if "--pure" in sys.argv else "fused"
tables = []
for fused in (None, False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20_000, 16, sparse=True), nn.Linear(16, 1))
    optimizer = SparseOptimizer.from_model(model, 1e-3, 1e-2, fused=fused)
    model(torch.arange(0, 20_000, 7)).square().sum().backward()
    optimizer.step()
    tables.append(model[0].weight.detach())
    if fused is None:
        assert optimizer.embedding.path == wanted, optimizer.embedding.path
torch.testing.assert_close(*tables, rtol=0, atol=1e-6)
print(f"multiepoch {about.version}: the first step is {wanted}.")
