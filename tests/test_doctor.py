import sys
from pathlib import Path

import pytest

from engine.runs import Workspace
from wakeword_tui import doctor
from wakeword_tui.__main__ import main
from wakeword_tui.doctor import Check


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
    doctor.disk(Workspace(tmp_path / "new"))
    doctor.lock(Workspace(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_that_cannot_be_written_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert doctor.disk(Workspace(tmp_path / "file" / "workspace")).broken
    assert main(["doctor", "--workspace", str(tmp_path / "file" / "workspace")]) == 1
    assert "✗ workspace" in capsys.readouterr().out


def test_a_training_is_seen(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.lock():
        assert doctor.lock(home).state == "note"
    assert doctor.lock(home).state == "good"


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
