"""Meter: what a training takes of this machine, read once a second in a thread of its own.

An NVIDIA GPU is read through `pynvml` (the extra `gpu`). Without it, or for a training on the CPU,
the processor time and the memory of this process stand in the same place.
"""

import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

EVERY_S = 1.0
UNSEEN_S = 5.0


class Meter:
    """The last reading as text; the thread that reads runs only while somebody looks."""

    def __init__(self) -> None:
        self._text = ""
        self._on_gpu = False
        self._looked_s = 0.0
        self._thread: threading.Thread | None = None

    def text(self, *, on_gpu: bool) -> str:
        """What was read last: `gpu 87 % 9.1/24 GB`, `cpu 93 % 412 MB`, or nothing yet."""
        self._on_gpu, self._looked_s = on_gpu, time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._text = ""
            self._thread = threading.Thread(target=self._read, name="meter", daemon=True)
            self._thread.start()
        return self._text

    def _read(self) -> None:
        cpu, gpu = Cpu(), gpu_reader()
        while time.monotonic() - self._looked_s < UNSEEN_S:
            time.sleep(EVERY_S)
            self._text = (gpu() if gpu and self._on_gpu else "") or cpu()


class Cpu:
    """The share of all cores that this process had since the last call, and its memory."""

    def __init__(self) -> None:
        self._then = time.monotonic(), time.process_time()

    def __call__(self) -> str:
        """One reading."""
        now = time.monotonic(), time.process_time()
        passed_s, used_s = (new - old for new, old in zip(now, self._then, strict=True))
        self._then = now
        share = used_s / max(passed_s, 1e-6) / (os.cpu_count() or 1)
        return f"cpu {share * 100:.0f} %{_resident()}"


def _resident() -> str:
    """Memory of this process that is in RAM; nothing where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return ""
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return f" {megabytes / 1024:.1f} GB" if megabytes >= 1024 else f" {megabytes:.0f} MB"


def gpu_reader() -> Callable[[], str] | None:
    """What reads the load and memory of the GPU that torch takes; None where nothing can."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
        if visible.startswith("GPU-"):
            gpu = pynvml.nvmlDeviceGetHandleByUUID(visible)
        else:
            gpu = pynvml.nvmlDeviceGetHandleByIndex(int(visible) if visible.isdigit() else 0)
    except pynvml.NVMLError:
        return None

    def read() -> str:
        try:
            load = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
            memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        except pynvml.NVMLError:
            return ""
        return f"gpu {load} % {memory.used / 2**30:.1f}/{memory.total / 2**30:.0f} GB"

    return read
