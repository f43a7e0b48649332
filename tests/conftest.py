import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# One thread is fastest for models this small, and leaves the other core to whoever else works.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from card import Card, sound_card
from tiny import Trained, make_data, run_tiny

import engine  # noqa: F401 -- its torchaudio guard must stand before anything imports transformers
from engine.runs import Workspace

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile("calm", deadline=None, max_examples=50)
hypothesis.settings.load_profile("calm")


# What starts the tests may have them ignore signals, as nohup and a background job do; ours are
# about what happens when one comes, and their child processes inherit what is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def mounted(size: str) -> Iterator[Path]:
    """A file system of a size; beside pytest's own folders, which could not be swept with it."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 64 KiB."""
    with mounted("64k") as folder:
        yield folder


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 16 MiB."""
    with mounted("16m") as folder:
        yield folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A run sets the number of torch's threads for the whole process: begin with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that the tests of a file share."""
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny.make_data`; do not write into it."""
    return make_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run on `tiny_data` that fires often; do not write into its workspace."""
    changes = {"detector.hysteresis": 0.0, "train.steps_per_epoch": 20}
    return run_tiny(tiny_data, tmp_path_factory.mktemp("tiny") / "workspace", changes)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of its own, with a short path: that of a socket has a hundred characters."""
    # a thread that still listens may put its socket there while it is taken away
    with tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True) as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """A virtual sound card, which PortAudio is told of: it lists devices when it begins."""
    folder = tempfile.TemporaryDirectory(prefix="card-")
    with folder as name, sound_card(Path(name)) as made:
        monkeypatch.setenv("PULSE_SERVER", made.address)
        import sounddevice

        sounddevice._terminate()
        sounddevice._initialize()
        yield made
