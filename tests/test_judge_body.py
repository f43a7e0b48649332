"""The bytes of a stranger: read exactly, or refused with a sentence; never believed."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny import hiss

from engine import audio
from engine.judge_body import MOST_BYTES, STREAMED, RefusedError, waveform_of

WAV, PCM = "audio/wav", "audio/pcm"


def wav(subtype: str, rate: int = 16_000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    samples = np.stack([hiss(0.5, seed, 0.1) for seed in range(channels)], axis=1)
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def head(data_bytes: int, *, rate: int = 16_000, code: int = 1, bits: int = 16) -> bytes:
    """The 44 bytes before the samples of a mono WAV that claims `data_bytes` of them."""
    block = bits // 8
    form = struct.pack("<HHIIHH", code, 1, rate, rate * block, block, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", STREAMED) + b"WAVE" + chunks


def refused(body: bytes, kind: str = WAV) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        waveform_of(body, kind)
    return caught.value.status, caught.value.message


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_is_what_libsndfile_reads(subtype: str, channels: int) -> None:
    body = wav(subtype, channels=channels)
    samples, _ = soundfile.read(io.BytesIO(body), dtype="float32", always_2d=True)
    assert np.array_equal(waveform_of(body, WAV), samples.mean(axis=1, dtype=np.float32))


def test_other_rates_are_resampled() -> None:
    found = waveform_of(wav("PCM_16", 44_100), WAV)
    samples, _ = soundfile.read(io.BytesIO(wav("PCM_16", 44_100)), dtype="float32")
    assert np.array_equal(found, audio.resample(samples, 44_100))


def test_pcm_is_what_the_client_sends() -> None:
    """32767 / 32768 of full scale, as 16 bits have no 1.0."""
    body = audio.to_int16(np.array([0.0, 0.5, -1.0, 1.0], np.float32)).tobytes()
    assert waveform_of(body, PCM).tolist() == [0, 16384 / 32768, -32767 / 32768, 32767 / 32768]


def test_a_length_that_the_writer_did_not_know_is_what_came() -> None:
    assert len(waveform_of(head(STREAMED) + bytes(3200), WAV)) == 1600


@pytest.mark.parametrize("claimed", [4 * 3600 * 32_000, 3202, 2**31, STREAMED - 1])
def test_a_header_that_claims_more_than_came_is_refused(claimed: int) -> None:
    assert refused(head(claimed) + bytes(3200)) == (422, "the WAV ends before its header says")


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", PCM, 422, "no audio"),
        (b"abc", PCM, 422, "3 bytes are no whole samples"),
        (bytes(320_002), PCM, 413, "10.0 s of audio, at most 10 s"),
        (bytes(320), "audio/pcm;rate=8000", 415, "not 16 kHz mono"),
        (bytes(320), "audio/pcm; channels=2", 415, "not 16 kHz mono"),
        (bytes(320), "application/x-www-form-urlencoded", 415, "the body is application/x-www"),
        (bytes(320), "", 415, "of no type"),
        (b"fLaC" + bytes(320), WAV, 422, "the body is no WAV"),
        (head(0), WAV, 422, "no audio"),
        (head(3200)[:40], WAV, 422, "no format, or no data"),
        (head(320, rate=44_101) + bytes(320), WAV, 415, "a rate of 44101 Hz"),
        (head(320, code=17) + bytes(320), WAV, 415, "format 17, 16 bits and 1 channels"),
        (head(320, code=3, bits=64) + bytes(320), WAV, 415, "format 3, 64 bits"),
        (head(4, code=3, bits=32) + struct.pack("<f", np.nan), WAV, 422, "not numbers"),
        (head(320_002) + bytes(320_002), WAV, 413, "10.0 s of audio"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_a_sentence(
    body: bytes, kind: str, status: int, said: str
) -> None:
    found, message = refused(body, kind)
    assert found == status
    assert said in message


def test_content_types_are_read_as_they_are_written() -> None:
    for kind in ("Audio/WAV", "audio/x-wav; charset=binary", "audio/vnd.wave", "audio/wave "):
        assert len(waveform_of(wav("PCM_16"), kind)) == 8000
    assert len(waveform_of(bytes(320), "AUDIO/PCM; Rate=16000;channels=1")) == 160


def test_loud_floats_are_clipped() -> None:
    body = head(8, code=3, bits=32) + struct.pack("<ff", 3e38, -2.0)
    assert waveform_of(body, WAV).tolist() == [1.0, -1.0]


def fit(body: bytes, kind: str) -> None:
    """A waveform whose every sample is a number within [-1, 1], or a refusal."""
    try:
        found = waveform_of(body, kind)
    except RefusedError as refusal:
        assert refusal.status in (413, 415, 422)
        assert refusal.message
        assert refusal.hint
        return
    assert found.dtype == np.float32
    assert 0 < len(found) <= 160_000
    assert np.isfinite(found).all()


@given(st.binary(max_size=400), st.sampled_from([WAV, PCM, "text/plain"]))
def test_any_bytes_are_a_waveform_or_a_refusal(body: bytes, kind: str) -> None:
    fit(body, kind)


@given(
    st.binary(max_size=100), st.binary(max_size=60), st.integers(0, 44), st.integers(0, 2**32 - 1)
)
def test_any_damage_to_a_wav_is_a_waveform_or_a_refusal(
    audio_bytes: bytes, damage: bytes, at: int, claimed: int
) -> None:
    body = bytearray(head(len(audio_bytes)) + audio_bytes)
    body[at : at + len(damage)] = damage
    fit(bytes(body), WAV)
    fit(head(claimed) + audio_bytes, WAV)


@given(st.integers(1, 2000), st.sampled_from([8, 16, 24, 32]), st.integers(0, 2**32 - 1))
def test_integers_come_back_as_they_were(count: int, bits: int, seed: int) -> None:
    """What is written as an integer k of `bits` bits is read as k / 2^(bits - 1)."""
    half = 2 ** (bits - 1)
    wanted = np.random.default_rng(seed).integers(-half, half, count)
    shifted = wanted + 128 if bits == 8 else wanted
    data = b"".join(int(k).to_bytes(bits // 8, "little", signed=bits > 8) for k in shifted)
    found = waveform_of(head(len(data), bits=bits) + data + b"\0" * (len(data) % 2), WAV)
    assert np.array_equal(found, wanted.astype(np.float32) / np.float32(half))


def test_no_header_makes_memory_grow() -> None:
    """A body of the largest size takes a few times its bytes, whatever it claims to be."""
    import tracemalloc

    body = head(MOST_BYTES - 44) + bytes(MOST_BYTES - 44)
    tracemalloc.start()
    for claimed in (head(STREAMED), head(STREAMED, rate=192_000), head(STREAMED, bits=8)):
        fit(claimed + body[44:], WAV)
    grown, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - grown < 24 * MOST_BYTES
