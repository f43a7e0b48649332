"""What is said to be out of memory, and what is let through."""

import pytest
import torch

from engine.device import memory_errors
from engine.errors import DeviceError
from engine.recipe import Recipe
from engine.recipe_file import override

RECIPE = override(Recipe(), {"train.batch_size": 64})


class OnnxExporterError(RuntimeError):
    """As torch's: of a library, and about something else."""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 6 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_running_out_of_memory_names_a_batch_size(error: Exception) -> None:
    told = r"out of memory with train\.batch_size = 64"
    with pytest.raises(DeviceError, match=told) as caught, memory_errors(RECIPE):
        raise error
    assert caught.value.hint == "try --set train.batch_size=32"


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("no kernel for this device"),
        RecursionError("maximum recursion depth exceeded"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        OnnxExporterError("the graph has no input"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        DeviceError("there is no GPU"),
    ],
)
def test_another_error_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors(RECIPE):
        raise error
    assert caught.value is error
