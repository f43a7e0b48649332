"""A process of its own that speaks with espeak-ng; `synth` runs this file and talks to it by pipe.

Never import it: libespeak-ng is GPL-3.0-or-later and full of global state, so it stays on the far
side of a pipe. This file therefore imports nothing of ours either.

    in   one JSON line each: {"speak", "voice", "rate_wpm", "pitch", "spread", "phonemes"}
                          or {"transcribe", "voice"}; the first line is {"seed"}
    out  a 4-byte little-endian length, then that many bytes: int16 sound, or UTF-8 text;
         the answer to the first line is JSON: {"rate_hz", "version", "variants"}
"""

import ctypes
import json
import struct
import sys
from pathlib import Path
from typing import Any

SYNCHRONOUS = 2
RATE, PITCH, SPREAD = 1, 3, 4
UTF8, PHONEME_INPUT = 0x1, 0x100
UNDERSCORE_BETWEEN = ord("_") << 8
OnSound = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Library:
    """libespeak-ng behind four methods."""

    def __init__(self, seed: int) -> None:
        import espeakng_loader

        self.lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.lib.espeak_Info.restype = ctypes.c_char_p
        self.data = Path(espeakng_loader.get_data_path())
        self.rate_hz = self.lib.espeak_Initialize(SYNCHRONOUS, 0, str(self.data).encode(), 0)
        if self.rate_hz <= 0:
            sys.exit("espeak-ng found no data of its own")
        # Whispers and breath draw on a generator that espeak seeds by the clock.
        self.lib.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self.sound = bytearray()
        self.on_sound = OnSound(self._keep)  # held here, or the collector takes it from under C
        self.lib.espeak_SetSynthCallback(self.on_sound)

    def _keep(self, sound: Any, samples: int, _events: Any) -> int:
        if sound and samples > 0:
            self.sound.extend(ctypes.string_at(sound, 2 * samples))
        return 0

    def introduce(self) -> bytes:
        """Say what this library is and which variants of a voice it has."""
        version = self.lib.espeak_Info(None).decode()
        variants = sorted(path.name for path in (self.data / "voices" / "!v").iterdir())
        facts = {"rate_hz": self.rate_hz, "version": version, "variants": variants}
        return json.dumps(facts).encode()

    def answer(self, ask: dict[str, Any]) -> bytes:
        """Do what one line asks."""
        if self.lib.espeak_SetVoiceByName(ask["voice"].encode()) != 0:
            sys.exit(f"espeak-ng has no voice {ask['voice']!r}")
        return self.transcribe(ask["transcribe"]) if "transcribe" in ask else self.speak(ask)

    def speak(self, ask: dict[str, Any]) -> bytes:
        """Speak a text, or phonemes in `[[ ]]`, as int16 samples at `rate_hz`."""
        self.sound.clear()
        for parameter, name in ((RATE, "rate_wpm"), (PITCH, "pitch"), (SPREAD, "spread")):
            self.lib.espeak_SetParameter(parameter, ask[name], 0)
        text = ask["speak"].encode()
        flags = UTF8 | (PHONEME_INPUT if ask["phonemes"] else 0)
        self.lib.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None)
        return bytes(self.sound)

    def transcribe(self, text: str) -> bytes:
        """Give the phonemes of a text: `_` between phonemes, a blank between words."""
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        while rest.value:
            clauses.append(
                self.lib.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, UNDERSCORE_BETWEEN)
            )
        return b" ".join(clauses)


def serve() -> None:
    """Answer lines until there are no more."""
    library = Library(json.loads(sys.stdin.readline())["seed"])
    send(library.introduce())
    for line in sys.stdin:
        send(library.answer(json.loads(line)))


def send(payload: bytes) -> None:
    """Write one answer."""
    sys.stdout.buffer.write(struct.pack("<I", len(payload)) + payload)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
