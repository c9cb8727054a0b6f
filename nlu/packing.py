"""Linear layers whose weights lie as the CPU's kernels read them, so that a call need not rearrange them first.

A 6-layer, 384-wide encoder of 13 tokens on one core takes a third less time for one text and a tenth less for 32
(bench/nlu.py; bfloat16 and float32 alike). torch's compiler does the same when it freezes a model, but wants a C++
compiler at run time and a minute; these are the two operators that it would call.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

__all__ = ["KERNEL_CACHES", "pack_linears"]

KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""What torch and oneDNN read, once a process, before they compute anything."""
MOST_KERNELS = 256
"""oneDNN compiles a kernel for each shape that it meets, 0.4 to 0.6 MB in 0.7 ms, and torch and oneDNN keep 1,024 of
them each. Texts in batches have thousands of shapes, so that a process grew by 700 MB in 5,000 texts and was not at its
end. With so many it is 200 MB at the most, for 5 % more CPU where no two batches are alike (`bench.nlu_shapes`)."""


class PackedLinear(nn.Module):
    """A linear layer for inference on a CPU. It has no parameters: its weight is opaque, and cannot be saved."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        """values: (..., inputs) -> (..., outputs)."""
        computed: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return computed


def pack_linears(module: nn.Module) -> None:
    """Replace every linear layer below `module`, which must be in its last dtype and on its last device.

    Layers that the kernels cannot take stay: those off the CPU, in float16, in bfloat16 on a CPU that does not
    multiply it, and all where torch was built without oneDNN. The first call bounds, for the process, how many kernels
    are kept, where the environment's `KERNEL_CACHES` do not say so.
    """
    for cache in KERNEL_CACHES:
        os.environ.setdefault(cache, str(MOST_KERNELS))
    _pack(module)


def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            if _packable(child.weight):
                setattr(module, name, PackedLinear(child))
        else:
            _pack(child)


def _packable(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    bfloat16 = weight.dtype is torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bfloat16 or weight.dtype is torch.float32
