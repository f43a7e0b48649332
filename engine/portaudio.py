"""PortAudio: the library behind sound cards, and the rule by which a player and an ear share it.

It lists the devices when it begins, and to begin anew kills every stream. So whatever opens, closes
or lists goes through here, one at a time, and it begins anew only while no stream of ours is open.
A server that hangs holds up all of this: call it in a thread.
"""

import atexit
import contextlib
import os
import sys
import threading
from typing import Any, Literal

from engine import laptop
from engine.errors import DeviceError

Kind = Literal["input", "output"]
_one_at_a_time = threading.Lock()
_open = set["Stream"]()


def library() -> Any:
    """sounddevice; it looks for PortAudio when it is imported. Raises DeviceError."""
    try:
        import sounddevice
    except (OSError, ImportError) as error:
        hint = "apt-get install -y libportaudio2 libasound2-plugins, or brew install portaudio"
        raise DeviceError("PortAudio is not installed", hint) from error
    except _raised_by_portaudio() as error:
        raise _cannot_begin(error) from error
    atexit.unregister(sounddevice._exit_handler)  # it would wait for a server that hangs
    return sounddevice


def device(kind: Kind, name: str = "") -> dict[str, Any]:
    """The device with `name` in its name, or the usual one. Raises DeviceError."""
    sounddevice = library()
    with _one_at_a_time:
        try:
            if not name:
                return dict(sounddevice.query_devices(kind=kind))
            listed = [dict(found) for found in sounddevice.query_devices()]
        except (sounddevice.PortAudioError, ValueError) as error:
            raise _nothing_there(kind) from error
    able = [found for found in listed if found[f"max_{kind}_channels"] > 0]
    for found in able:
        if name.lower() in found["name"].lower():
            return found
    there = ", ".join(found["name"] for found in able) or "none"
    raise DeviceError(f"there is no {kind} device {name!r}", f"there are: {there}")


def called(found: dict[str, Any]) -> str:
    """The name of a device, with the server where it only stands for one."""
    server = os.environ.get("PULSE_SERVER")
    through = server and found["name"] in ("default", "pulse")
    return f"{found['name']} at {server}" if through else str(found["name"])


def look_again() -> None:
    """List the devices anew, unless a stream is open. Raises DeviceError."""
    sounddevice = library()
    with _one_at_a_time:
        if _open:
            return
        try:
            with contextlib.suppress(sounddevice.PortAudioError):  # where it did not begin before
                sounddevice._terminate()
            sounddevice._initialize()
        except sounddevice.PortAudioError as error:
            raise _cannot_begin(error) from error


class Stream:
    """A stream that has started; none is left open where it cannot. Raises DeviceError."""

    def __init__(self, kind: Kind, **options: Any) -> None:
        sounddevice = library()
        make = sounddevice.InputStream if kind == "input" else sounddevice.OutputStream
        with _one_at_a_time:
            try:
                self._stream = make(**options)
            except (sounddevice.PortAudioError, ValueError) as error:
                raise DeviceError(_reason(error), _way_out(kind)) from error
            try:
                self._stream.start()
            except sounddevice.PortAudioError as error:
                self._stream.close()
                raise DeviceError(_reason(error), _way_out(kind)) from error
            _open.add(self)

    @property
    def latency_s(self) -> float:
        """How late it is, as far as PortAudio knows."""
        return float(self._stream.latency)

    def close(self) -> None:
        """End it without playing what it still holds; blocks as long as the server hangs."""
        with _one_at_a_time:
            if self in _open:
                self._stream.abort()
                self._stream.close()
                _open.discard(self)


def _raised_by_portaudio() -> type[BaseException]:
    """The error being handled, if it is PortAudio's: a failed import leaves no name to catch."""
    kind = sys.exc_info()[0]
    return kind if kind is not None and kind.__name__ == "PortAudioError" else ImportError


def _reason(error: BaseException) -> str:
    """PortAudio's own words, without its numbers."""
    return str(error).partition(" [")[0]


def _cannot_begin(error: BaseException) -> DeviceError:
    return DeviceError(f"PortAudio cannot begin: {_reason(error)}", _way_out("output"))


def _nothing_there(kind: Kind) -> DeviceError:
    """No device; on a box without a card, or whose laptop has gone."""
    server = os.environ.get("PULSE_SERVER")
    at = f" at PULSE_SERVER={server}" if server else ""
    what = f"microphone{at}" if kind == "input" else "sound device"
    return DeviceError(f"there is no {what}", _way_out(kind))


def _way_out(kind: Kind) -> str:
    """What can be done all the same."""
    if kind == "input":
        return f"with --audio pipe, on the laptop: {laptop.command('mic')}"
    return f"on the laptop: {laptop.command('speaker')}"
