"""GNU screen: the app opens in it, outlives a detached window, and is there again for the next."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.terminal import needs_tmux, tmux
from tests.waiting import until

needs_screen = pytest.mark.skipif(shutil.which("screen") is None, reason="there is no screen here")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@needs_tmux
@needs_screen
def test_the_app_outlives_the_window_that_is_detached_from_it(tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir(mode=0o700)
    home = {"SCREENDIR": str(sockets), "XDG_STATE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    app = (
        f"echo $$ > {tmp_path}/pid; exec {sys.executable} -m wakeword_tui --workspace {tmp_path}/w"
    )
    begin = ["screen", "-c", "/dev/null", "-S", "wake", "sh", "-c", app]

    def tell(*words: str) -> None:
        command = ["screen", "-S", "wake", "-X", *words]
        subprocess.run(command, env=os.environ | home, check=True)

    (tmp_path / "first").mkdir()
    with tmux(tmp_path / "first", begin, home) as window:
        window.see("manifest")
        assert "2 Train" not in window.screen()
        tell("detach")
        until(lambda: not window.screen(), else_say=window.screen)
    pid = int((tmp_path / "pid").read_text())
    assert not gone(pid)
    (tmp_path / "second").mkdir()
    with tmux(tmp_path / "second", ["screen", "-r", "wake"], home, (120, 36)) as window:
        window.see("2 Train")  # there is no room for other screens' names in 80 columns
        window.press("6")
        window.see("s starts to listen")
        tell("quit")
        until(lambda: gone(pid), else_say=window.screen)
        until(lambda: not window.screen(), else_say=window.screen)
