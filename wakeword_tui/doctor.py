"""What this machine has and lacks, and how to mend it: for `wakeword-tui doctor` and the app.

Every check is a function that returns one `Check`; none changes anything.
"""

import importlib.metadata
import importlib.util
import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import DeviceError, WakewordError
from engine.runs import Workspace

FREE_GB = 2.0
SMALLEST_TERMINAL = (60, 16)
SIGNS = {"good": "✓", "broken": "✗", "note": "·"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `broken` if training needs it, `note` if it can be lived with."""

    name: str
    state: Literal["good", "broken", "note"]
    found: str
    fix: str = ""

    @property
    def broken(self) -> bool:
        """Whether training must wait until this is mended."""
        return self.state == "broken"

    def __str__(self) -> str:
        line = f"{SIGNS[self.state]} {self.name:<12} {self.found}"
        return f"{line}\n  {'':<12} fix: {self.fix}" if self.fix else line


def examine(workspace: Workspace) -> Iterator[Check]:
    """Yield the checks, cheap ones first: torch is imported on the way."""
    yield python()
    yield terminal()
    yield characters()
    yield session()
    yield disk(workspace)
    yield lock(workspace)
    yield espeak()
    yield sound()
    yield microphone()
    yield from torch_and_device()


def python() -> Check:
    """The interpreter and the machine."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "good", f"{found}, {os.cpu_count()} cores")


def terminal() -> Check:
    """The terminal's type, colours and size."""
    kind, colours = os.environ.get("TERM", ""), os.environ.get("COLORTERM", "256 colours at most")
    columns, rows = shutil.get_terminal_size()
    found = f"{kind or 'no TERM'}, {colours}, {columns}x{rows}"
    if not sys.stdout.isatty():
        return Check("terminal", "note", "not a terminal: the app will not open here")
    if kind in ("", "dumb"):
        return Check("terminal", "note", found, "export TERM=xterm-256color")
    if columns < SMALLEST_TERMINAL[0] or rows < SMALLEST_TERMINAL[1]:
        return Check("terminal", "note", found, "make the window 80x24 or larger")
    return Check("terminal", "good", found)


def characters() -> Check:
    """Whether charts can be drawn with braille."""
    encoding = locale.getencoding()
    if encoding.lower().replace("-", "") == "utf8":
        return Check("characters", "good", encoding)
    return Check("characters", "note", encoding, "export LANG=C.UTF-8")


def session() -> Check:
    """Whether a lost connection would take the app with it."""
    if os.environ.get("TMUX") or os.environ.get("STY"):
        return Check("session", "good", "in tmux or screen: it outlives the connection")
    if os.environ.get("SSH_CONNECTION"):
        return Check("session", "note", "over SSH and not in tmux", "tmux new -A -s wake")
    return Check("session", "good", "local")


def disk(workspace: Workspace) -> Check:
    """Whether the workspace can be written and has room."""
    folder = _existing(workspace.root)
    try:
        with tempfile.TemporaryFile(dir=folder):
            free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        fix = "choose another with --workspace or $WAKEWORD_HOME"
        return Check("workspace", "broken", f"{workspace.root}: {error.strerror}", fix)
    found = f"{workspace.root}, {free_gb:.1f} GB free"
    if free_gb < FREE_GB:
        return Check("workspace", "note", found, "wakeword-tui runs prune, or delete the cache")
    return Check("workspace", "good", found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def lock(workspace: Workspace) -> Check:
    """Whether a training holds the workspace."""
    pid = workspace.holder()
    if pid is None:
        return Check("lock", "good", "free")
    return Check("lock", "note", f"process {pid} is training", "wakeword-tui runs stop")


def espeak() -> Check:
    """The voices of `demo` and `synth`."""
    if importlib.util.find_spec("espeakng_loader") is None:
        fix = "pip install 'wakeword-tui[demo]'"
        return Check("espeak-ng", "note", "absent: demo and synth cannot speak", fix)
    version = importlib.metadata.version("espeakng-loader")
    return Check("espeak-ng", "good", f"espeakng-loader {version}")


def sound() -> Check:
    """Whether Review can be heard."""
    from engine.sound import output_name

    try:
        return Check("sound", "good", output_name())
    except DeviceError as error:
        return Check("sound", "note", f"{error.message}: Review is silent", error.hint)


def microphone() -> Check:
    """Whether Live can hear without a laptop's help."""
    from engine.microphone import input_name

    try:
        return Check("microphone", "good", input_name())
    except DeviceError as error:
        return Check("microphone", "note", f"{error.message}: Live hears a mic-pipe", error.hint)


def torch_and_device() -> Iterator[Check]:
    """torch, torchaudio and its guard, and what they compute on."""
    yield _tried("torch", _torch)
    if importlib.util.find_spec("torch") is not None:
        yield _tried("torchaudio", _torchaudio)
        yield _tried("device", _device)
        yield from gpu_meter()


def _tried(name: str, check: Callable[[], Check]) -> Check:
    """Run a check that imports a native library; one that does not load is what we look for."""
    try:
        return check()
    except (ImportError, OSError, RuntimeError, WakewordError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check(name, "broken", reason, "pip install --force-reinstall wakeword-tui")


def _torch() -> Check:
    import torch

    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if not torch.__version__.startswith("2.13."):
        return Check("torch", "note", f"{found}; 2.13 is tested", "pip install 'torch==2.13.*'")
    return Check("torch", "good", found)


def _torchaudio() -> Check:
    import torchaudio
    from torchaudio import _extension

    error = getattr(_extension, "load_error", None)
    found = f"{torchaudio.__version__}, {'native' if error is None else 'plain Python'} filters"
    return Check("torchaudio", "good", found)


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        return Check("device", "good", found)
    if torch.version.cuda and Path("/proc/driver/nvidia/version").exists():
        fix = "this torch wants a driver of version 580 or newer"
        return Check("device", "note", f"cpu: CUDA {torch.version.cuda} does not start", fix)
    return Check("device", "good", "cpu: no NVIDIA GPU, small models train well without")


def gpu_meter() -> Iterator[Check]:
    """What tells the load of a GPU; nothing to say where there is none."""
    import torch

    if torch.cuda.is_available() and importlib.util.find_spec("pynvml") is None:
        fix = "pip install 'wakeword-tui[gpu]'"
        yield Check("pynvml", "note", "absent: the top bar cannot tell the load of the GPU", fix)
