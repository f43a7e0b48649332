"""Where torch computes: the device of a recipe, its threads, its memory, and running out of it."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import DeviceError
from engine.recipe import Recipe

NO_MEMORY = "out of memory", "can't allocate memory", "ALLOC_FAILED"


def device_of(recipe: Recipe) -> torch.device:
    """The device a recipe trains on. Raises DeviceError where it asks for a GPU in vain."""
    wanted = recipe.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "there is no GPU that torch can use", 'set train.device = "cpu", or see doctor'
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def threads_of(recipe: Recipe) -> int:
    """CPU threads that a recipe trains with: as it says, or one for each core it may run on."""
    pinned = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
    return recipe.train.threads or pinned or os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """Name a device for a person."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def memory_mb(device: torch.device) -> float:
    """Memory in use: of the GPU, or the largest this process has had."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _no_memory(error: BaseException) -> bool:
    """Whether an error is of memory; most of torch, cuBLAS and cuDNN say so in words alone."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in NO_MEMORY)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Put a tensor on a device; a GPU fetches it while the CPU goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.numel():
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def memory_errors(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into a sentence that names a batch size."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _no_memory(error):
            raise
        raise DeviceError(
            f"out of memory with train.batch_size = {recipe.train.batch_size}",
            f"try --set train.batch_size={max(2, recipe.train.batch_size // 2)}",
        ) from error


def laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a model on its device; on a GPU pictures lie channels last, for its tensor cores."""
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)
