import re
import sys
import time
from pathlib import Path

import pytest
from textual.content import Content
from textual.geometry import Size

from wakeword_tui.meter import Cpu, Meter, gpu_reader
from wakeword_tui.widgets.topbar import TopBar

TABS = (("1", "Setup"), ("2", "Train"))


def test_the_processor_and_the_memory_are_read() -> None:
    assert re.fullmatch(r"cpu \d+ %( \d+ MB| \d+\.\d GB)", Cpu()())


def test_a_meter_reads_in_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wakeword_tui.meter.EVERY_S", 0.01)
    meter = Meter()
    assert meter.text(on_gpu=True) == ""
    deadline_s = time.monotonic() + 30
    while not meter.text(on_gpu=True) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert meter.text(on_gpu=True).startswith("cpu" if gpu_reader() is None else "gpu")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, " wakeword  1 Setup  2 Train      ● train 41 %  3m 05s  cpu 93 % 412 MB"),
        (62, " wakeword  1 Setup  2   ● train 41 %  3m 05s  cpu 93 % 412 MB"),
        (50, " wakeword  1 Setup  2   ● train 41 %  3m 05s"),
        (30, " wakeword  1 Setup  2   ● train 41 %"),
    ],
)
def test_the_last_parts_of_the_status_go_first(
    columns: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = TopBar(TABS, "Setup")
    monkeypatch.setattr(TopBar, "size", Size(columns, 1))
    monkeypatch.setattr(bar, "refresh", lambda: None)
    bar.show(*map(Content, ("● train 41 %", "3m 05s", "cpu 93 % 412 MB")))
    assert bar.render().plain.split() == line.split()
    least = 36  # the first part is told in any case
    assert bar.render().cell_length == max(columns, least)


def test_a_gpu_is_read_through_pynvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the driver's library: 9.1 of 24 GiB of the second GPU, 87 % busy."""
    (tmp_path / "pynvml.py").write_text(
        "from types import SimpleNamespace as Facts\n"
        "class NVMLError(Exception): pass\n"
        "def nvmlInit(): pass\n"
        "def nvmlDeviceGetHandleByIndex(number): return number\n"
        "def nvmlDeviceGetUtilizationRates(gpu): return Facts(gpu=86 + gpu)\n"
        "def nvmlDeviceGetMemoryInfo(gpu): return Facts(used=9.1 * 2**30, total=24 * 2**30)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    read = gpu_reader()
    assert read is not None
    assert read() == "gpu 87 % 9.1/24 GB"
    monkeypatch.delitem(sys.modules, "pynvml")
