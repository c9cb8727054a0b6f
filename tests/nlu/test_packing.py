"""The packed layers compute what the plain ones do, in every dtype that an engine uses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nlu.packing import pack_linears

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 48), (3, 5, 48), (7, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_the_same(dtype: torch.dtype, shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(48, 32, bias=bias), nn.GELU(), nn.Sequential(nn.Linear(32, 8))).to(dtype)
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    assert not any(isinstance(module, nn.Linear) for module in packed.modules())
    values = torch.randn(shape).to(dtype)
    with torch.inference_mode():
        torch.testing.assert_close(packed(values), plain(values), atol=1e-2, rtol=2e-2)


def test_views_and_expanded_values_are_read_right() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 4))
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    values = torch.randn(5, 32, 3)[:, ::2].transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(packed(values), plain(values))


def test_half_precision_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Linear(4, 4)).half()
    pack_linears(module)
    assert isinstance(module[0], nn.Linear)


def test_what_is_no_linear_layer_stays() -> None:
    module = nn.ModuleDict({"norm": nn.LayerNorm(4), "gru": nn.GRU(4, 4), "inner": nn.Sequential(nn.Embedding(3, 4))})
    before = list(module.modules())
    pack_linears(module)
    assert list(module.modules()) == before
