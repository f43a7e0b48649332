"""What this machine has and lacks, and how to mend it: for `wakeword-tui doctor` and the app.

Every check is a function that returns one `Check`; none changes anything. Those of our own files
are in `checked`.
"""

import contextlib
import importlib.metadata
import importlib.util
import locale
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from engine.errors import DeviceError, WakewordError
from engine.laptop import look_at_folder
from engine.runs import Workspace
from wakeword_tui.checked import Check, belongings

TORCH = "pip install --force-reinstall 'torch==2.13.*' 'torchaudio==2.11.*'"
SMALLEST_TERMINAL = (60, 16)
FREE_MEMORY_GB = 1.5
COLOURS = {
    None: "no colours", "standard": "16 colours", "windows": "16 colours", "256": "256 colours",
    "truecolor": "all colours",
}  # fmt: skip
"""What Rich, and so the app, makes of a terminal."""
LATE_MS = 100
"""From which a person waits for `esc`."""
REACH_S = 2.0
HUB = "https://huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def examine(workspace: Workspace) -> Iterator[Check]:
    """Yield the checks, cheap ones first: torch is imported on the way."""
    yield python()
    yield threads()
    yield from memory()
    yield terminal()
    yield characters()
    yield session()
    yield from tmux()
    yield from belongings(workspace)
    yield espeak()
    yield plots()
    yield sound()
    yield microphone()
    yield pipes()
    yield models()
    yield from torch_and_device()


def python() -> Check:
    """The interpreter and the machine."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "good", f"{found}, {os.cpu_count()} cores")


def threads() -> Check:
    """Whether as many threads compute as there are cores for them, and wait without spinning."""
    cores, asked = allowed_cores(), os.environ.get("OMP_NUM_THREADS", "")
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        fix = "unset OMP_WAIT_POLICY"
        return Check("threads", "note", "threads that wait spin, and the app stutters", fix)
    if asked.isdigit() and int(asked) > cores:
        found = f"OMP_NUM_THREADS is {asked}, the cores are {cores}"
        return Check("threads", "note", found, f"export OMP_NUM_THREADS={cores}")
    if not asked and cores < visible_cores():
        found = f"a quota of {cores} of {visible_cores()} cores, and a thread for each"
        return Check("threads", "note", found, f"export OMP_NUM_THREADS={cores}")
    return Check("threads", "good", f"OMP_NUM_THREADS is {asked}" if asked else "as torch has it")


def visible_cores() -> int:
    """Cores that torch counts, and takes a thread for each."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def allowed_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: those it is pinned to, or fewer where a quota says so."""
    cores = visible_cores()
    with contextlib.suppress(OSError, ValueError):
        share, period = quota.read_text().split()
        cores = min(cores, max(1, int(share) // int(period)))
    return cores


def memory(facts: Path = Path("/proc/meminfo")) -> Iterator[Check]:
    """Whether there is memory to train in; nothing where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = facts.read_text().splitlines()
        free_kb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        found = f"{free_kb / 1e6:.1f} GB free"
        if free_kb / 1e6 < FREE_MEMORY_GB:
            fix = "end other programs, or train with --set train.batch_size=32"
            yield Check("memory", "note", found, fix)
        else:
            yield Check("memory", "good", found)


def terminal() -> Check:
    """The terminal's type, colours and size."""
    kind, colours = os.environ.get("TERM", ""), Console(force_terminal=True).color_system
    columns, rows = shutil.get_terminal_size()
    found = f"{kind or 'no TERM'}, {COLOURS[colours]}, {columns}x{rows}"
    if not sys.stdout.isatty():
        fix = "ssh -t BOX wakeword-tui, or type it in a terminal"
        return Check("terminal", "note", "not a terminal: the app will not open here", fix)
    if columns < SMALLEST_TERMINAL[0] or rows < SMALLEST_TERMINAL[1]:
        return Check("terminal", "note", found, "make the window 80x24 or larger")
    if os.environ.get("NO_COLOR"):
        return Check("terminal", "note", f"{found}, and NO_COLOR is set", "unset NO_COLOR")
    if colours in (None, "standard"):
        better = "tmux-256color" if os.environ.get("TMUX") else "xterm-256color"
        return Check("terminal", "note", found, f"export TERM={better}")
    return Check("terminal", "good", found)


def characters() -> Check:
    """Whether charts can be drawn with braille, and the locale is one of this machine."""
    encoding = locale.getencoding()
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        found = f"the locale {os.environ.get('LC_ALL') or os.environ.get('LANG')} is not installed"
        return Check("characters", "note", found, "export LC_ALL=C.UTF-8")
    if encoding.lower().replace("-", "") == "utf8":
        return Check("characters", "good", encoding)
    fix = "export LC_ALL=C.UTF-8; until then everything is drawn in ASCII"
    return Check("characters", "note", encoding, fix)


def session() -> Check:
    """Whether a lost connection would take the app with it."""
    if os.environ.get("TMUX") or os.environ.get("STY"):
        return Check("session", "good", "in tmux or screen: it outlives the connection")
    if os.environ.get("SSH_CONNECTION"):
        return Check("session", "note", "over SSH and not in tmux", "tmux new -A -s wake")
    return Check("session", "good", "local")


def tmux() -> Iterator[Check]:
    """What tmux does to keys, colours and the clipboard; nothing outside of it."""
    if not os.environ.get("TMUX") or shutil.which("tmux") is None:
        return
    told = {name: _tmux_option(name) for name in ("escape-time", "set-clipboard")}
    if not any(told.values()):
        return
    faults, mends = [], []
    if told["escape-time"].isdigit() and int(told["escape-time"]) > LATE_MS:
        faults.append(f"`esc` comes {told['escape-time']} ms late")
        mends.append("set -s escape-time 20")
    if told["set-clipboard"] in ("off", "external"):
        faults.append("what `y` copies does not reach your clipboard")
        mends.append("set -s set-clipboard on")
    if faults:
        yield Check("tmux", "note", ", ".join(faults), "tmux " + " \\; ".join(mends))
    else:
        yield Check("tmux", "good", "as it should be set")


def _tmux_option(name: str) -> str:
    """What an option of the server is set to, "" where it does not say."""
    command = ["tmux", "show-options", "-sv", name]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
        return done.stdout.strip()
    return ""


def espeak() -> Check:
    """The voices of `demo` and `synth`."""
    if importlib.util.find_spec("espeakng_loader") is None:
        fix = "pip install 'wakeword-tui[demo]'"
        return Check("espeak-ng", "note", "absent: demo and synth cannot speak", fix)
    version = importlib.metadata.version("espeakng-loader")
    return Check("espeak-ng", "good", f"espeakng-loader {version}")


def plots() -> Check:
    """What draws curves as pictures."""
    if importlib.util.find_spec("matplotlib") is None:
        fix = "pip install 'wakeword-tui[plots]'"
        return Check("matplotlib", "note", "absent: --plots and the front of a search", fix)
    return Check("matplotlib", "good", importlib.metadata.version("matplotlib"))


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


def pipes() -> Check:
    """Whether the sockets of `mic-pipe` and `speaker-pipe` are nobody else's."""
    try:
        return Check("pipes", "good", str(look_at_folder()))
    except DeviceError as error:
        return Check("pipes", "note", error.message, error.hint)


def models() -> Check:
    """Whether a public model could be fetched, which only a Wav2Vec2 teacher asks for."""
    fix = "--set model.pretrained=FOLDER, or leave it empty"
    shut = next((v for v in OFFLINE if os.environ.get(v, "0") not in ("", "0")), None)
    if shut:
        found = f"{shut} is set: a Wav2Vec2 teacher must lie on this machine"
        return Check("models", "note", found, f"unset {shut}, or {fix}")
    place = os.environ.get("HF_ENDPOINT", HUB)
    if not _reached(place):
        found = f"{place} is out of reach: a Wav2Vec2 teacher must lie on this machine"
        return Check("models", "note", found, fix)
    return Check("models", "good", f"{place} answers")


def _reached(url: str) -> bool:
    """Whether a server can be connected to; one that hangs is left behind."""
    found: list[bool] = []

    def knock() -> None:
        parts = urlsplit(url)
        with contextlib.suppress(OSError, ValueError):
            address = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
            socket.create_connection(address, REACH_S).close()
            found.append(True)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(REACH_S)
    return bool(found)


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
        return Check(name, "broken", reason, TORCH)


def _torch() -> Check:
    import torch

    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if not torch.__version__.startswith("2.13."):
        return Check("torch", "note", f"{found}; 2.13 is tested", TORCH)
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
