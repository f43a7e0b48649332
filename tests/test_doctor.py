import locale
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runs import Workspace
from wakeword_tui import checked, doctor
from wakeword_tui.__main__ import main
from wakeword_tui.doctor import Check

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


def test_a_check_reads_as_a_line_with_its_fix() -> None:
    check = Check("lock", "note", "process 7 is training", "wakeword-tui runs stop")
    first, second = str(check).splitlines()
    assert first == "· lock         process 7 is training"
    assert second.strip() == "fix: wakeword-tui runs stop"


def test_this_machine_can_train(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor.examine(Workspace(tmp_path / "new"))}
    assert not [check for check in checks.values() if check.broken]
    assert {"python", "terminal", "workspace", "lock", "torch", "torchaudio", "device"} <= set(
        checks
    )


def test_examining_makes_nothing(tmp_path: Path) -> None:
    for _ in checked.belongings(Workspace(tmp_path / "new")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_that_cannot_be_written_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert checked.disk(Workspace(tmp_path / "file" / "workspace")).broken
    assert main(["doctor", "--workspace", str(tmp_path / "file" / "workspace")]) == 1
    assert "✗ workspace" in capsys.readouterr().out


def test_a_training_is_seen(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.lock():
        assert checked.lock(home).state == "note"
    assert checked.lock(home).state == "good"


def test_ssh_without_tmux_gets_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 22")
    assert doctor.session().fix == "tmux new -A -s wake"
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    assert doctor.session().state == "good"


def test_a_library_that_does_not_load_is_broken() -> None:
    def check() -> Check:
        raise OSError("libcudart.so.13: cannot open shared object file")

    found = doctor._tried("torch", check)
    assert found.broken
    assert "libcudart" in found.found


def test_a_machine_without_portaudio_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    check = doctor.sound()
    assert (check.state, check.found) == ("note", "PortAudio is not installed: Review is silent")
    assert "libportaudio2" in check.fix


def test_a_machine_without_a_microphone_is_told_how_to_use_the_laptops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PortAudio that lists no device, as on a box without a card."""
    monkeypatch.setattr("sounddevice.query_devices", lambda **_: _no_device())
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 2222")
    monkeypatch.setenv("USER", "me")
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    check = doctor.microphone()
    assert check.found == "there is no microphone: Live hears a mic-pipe"
    assert "on the laptop: arecord " in check.fix
    assert "| ssh -p 2222 me@10.0.0.2 " in check.fix
    assert check.fix.endswith("wakeword-tui mic-pipe")


def _no_device() -> None:
    import sounddevice

    raise sounddevice.PortAudioError("Error querying device -1")


def test_every_check_stands_in_troubleshooting_and_every_check_of_it_is_made() -> None:
    """The fourth column of its tables names what finds a fault."""
    source = "".join(Path(module.__file__ or "").read_text() for module in (checked, doctor))
    made = set(re.findall(r'(?:Check|_tried)\(\s*"([\w-]+)"', source)) - {"python"}
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    told = {name for row in rows if len(row) == 4 for name in re.findall(r"`(\S+)`", row[3])}
    assert made == told


def test_more_threads_than_cores_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert doctor.threads().fix.startswith("export OMP_NUM_THREADS=")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.threads().state == "good"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert doctor.threads().fix == "unset OMP_WAIT_POLICY"


def test_a_containers_quota_counts_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a core is one thread."""
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert doctor.allowed_cores(tmp_path / "cpu.max") == 1
    (tmp_path / "cpu.max").write_text("max 100000")
    assert doctor.allowed_cores(tmp_path / "cpu.max") == doctor.visible_cores()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(doctor, "visible_cores", lambda: 4096)
    monkeypatch.setattr(doctor, "allowed_cores", lambda: 2)
    assert doctor.threads().fix == "export OMP_NUM_THREADS=2"


def test_little_memory_is_noticed(tmp_path: Path) -> None:
    facts = tmp_path / "meminfo"
    for kilobytes, state in ((900_000, "note"), (9_000_000, "good")):
        facts.write_text(f"MemTotal: 16000000 kB\nMemAvailable: {kilobytes} kB\n")
        assert [check.state for check in doctor.memory(facts)] == [state]
    assert list(doctor.memory(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("TERM", "vt100", "export TERM=xterm-256color"),
        ("TERM", "dumb", "export TERM=xterm-256color"),
        ("NO_COLOR", "1", "unset NO_COLOR"),
        ("COLUMNS", "50", "make the window 80x24 or larger"),
    ],
)
def test_a_poor_terminal_is_noticed(
    name: str, value: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    for key in ("COLORTERM", "NO_COLOR", "TMUX"):
        monkeypatch.delenv(key, raising=False)
    for key, text in good.items():
        monkeypatch.setenv(key, text)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert doctor.terminal().found == "xterm-256color, 256 colours, 80x24"
    monkeypatch.setenv(name, value)
    assert doctor.terminal().fix == fix


def test_a_locale_that_is_not_installed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = locale.setlocale(locale.LC_CTYPE)
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    assert doctor.characters().found == "the locale xx_XX.UTF-8 is not installed"
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(locale, "getencoding", lambda: "ANSI_X3.4-1968")
    assert doctor.characters().fix.startswith("export LC_ALL=C.UTF-8")
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture
def tmux() -> Iterator[list[str]]:
    """A tmux server of its own, as it is without a config file."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:
        server = ["tmux", "-S", f"{folder}/s", "-f", "/dev/null"]
        subprocess.run([*server, "new", "-d", "sleep", "60"], check=True)
        yield server
        subprocess.run([*server, "kill-server"], check=False)


def test_what_tmux_does_to_keys_and_the_clipboard_is_noticed(
    tmux: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([*tmux, "set", "-s", "escape-time", "500"], check=True)
    monkeypatch.setenv("TMUX", f"{tmux[2]},1,0")
    (check,) = doctor.tmux()
    assert check.found.startswith("`esc` comes 500 ms late")
    assert check.fix == r"tmux set -s escape-time 20 \; set -s set-clipboard on"
    subprocess.run(check.fix, shell=True, check=True, env=os.environ)
    assert [check.state for check in doctor.tmux()] == ["good"]
    monkeypatch.delenv("TMUX")
    assert list(doctor.tmux()) == []


def test_a_folder_of_pipes_that_others_can_get_at_is_noticed(runtime: Path) -> None:
    assert doctor.pipes().state == "good"
    assert list(runtime.iterdir()) == []
    (runtime / "wakeword").mkdir(mode=0o755)
    assert f"chmod 700 {runtime / 'wakeword'}" in doctor.pipes().fix


def test_public_models_out_of_reach_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "is out of reach" in doctor.models().found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.models().fix.startswith("unset HF_HUB_OFFLINE")


def test_a_missing_extra_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor.plots().fix == "pip install 'wakeword-tui[plots]'"
    assert doctor.espeak().fix == "pip install 'wakeword-tui[demo]'"
