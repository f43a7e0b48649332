from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny import hiss, tone

from engine import audio
from engine.audio import to_int16
from engine.errors import DataError

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channel_count_becomes_16_khz_mono(
    tmp_path: Path, rate: int, channels: int
) -> None:
    """1 s of a tone of 440 Hz is 16,000 samples, and 440 periods still."""
    tone_at_rate = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", np.stack([tone_at_rate] * channels, axis=1), rate)
    waveform = audio.read(tmp_path / "a.wav")
    assert waveform.dtype == np.float32
    assert waveform.shape == (16_000,)
    assert int(np.abs(np.fft.rfft(waveform)).argmax()) == 440
    assert np.abs(waveform).max() == pytest.approx(0.5, rel=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    """Left 0.6 and right 0.2 give 0.4."""
    stereo = np.stack([np.full(1600, 0.6), np.full(1600, 0.2)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    assert audio.read(tmp_path / "a.wav") == pytest.approx(np.full(1600, 0.4))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_lossless_file_gives_back_its_samples(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    audio.write(path, tone(440, 0.5))
    assert np.abs(audio.read(path) - tone(440, 0.5)).max() <= 1 / 32768


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_a_lossy_file_gives_back_its_tone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    audio.write(path, tone(440, 1.0))
    spectrum = np.abs(np.fft.rfft(audio.read(path)[:16_000], 16_000))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_downsampling_leaves_nothing_of_what_16_khz_cannot_hold(tmp_path: Path) -> None:
    high = 0.5 * np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000)
    soundfile.write(tmp_path / "a.wav", high, 48_000)
    assert np.abs(audio.read(tmp_path / "a.wav")[800:-800]).max() < 0.01


@pytest.mark.parametrize("rate", RATES)
def test_a_long_file_in_blocks_is_the_whole_file(tmp_path: Path, rate: int) -> None:
    """25.3 s in blocks of 10 s."""
    noise = 0.3 * np.random.default_rng(rate).standard_normal((round(25.3 * rate), 2))
    soundfile.write(tmp_path / "a.wav", noise, rate)
    parts = list(audio.blocks(tmp_path / "a.wav"))
    assert max(map(len, parts)) <= 11 * 16_000
    whole = audio.read(tmp_path / "a.wav")
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-6)


@given(samples=st.integers(1, 2000), rate=st.sampled_from([8_000, 44_100]))
def test_a_short_file_in_blocks_is_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, samples: int, rate: int
) -> None:
    path = tmp_path_factory.mktemp("short") / "a.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, samples), rate)
    assert np.concatenate(list(audio.blocks(path))) == pytest.approx(audio.read(path), abs=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_without_samples_has_no_blocks(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), rate)
    assert list(audio.blocks(tmp_path / "a.wav")) == []


def test_a_long_file_that_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "odd.wav").write_bytes(b"hello, a text file")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    for name in ("odd.wav", "nan.wav", "gone.wav"):
        with pytest.raises(DataError, match=name):
            list(audio.blocks(tmp_path / name))


@pytest.mark.parametrize("content", [b"", b"hello, a text file", b"RIFF\x24\x00\x00\x00WAVE"])
def test_what_is_not_audio_is_a_data_error_of_that_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.wav: \w") as caught:
        audio.read(path)
    assert caught.value.hint == "convert it to WAV or remove it"


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: "):
        audio.read(tmp_path / "gone.wav")


def test_a_file_without_samples_is_a_data_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(DataError, match="holds no samples"):
        audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_a_data_error(tmp_path: Path, bad: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, bad]), 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match="not numbers"):
        audio.read(tmp_path / "a.wav")


@given(st.integers(1, 4000))
def test_no_truncation_of_a_file_gets_past_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.flac"
    audio.write(path, hiss(0.1, 1))
    path.write_bytes(path.read_bytes()[:-cut])
    try:
        assert np.isfinite(audio.read(path)).all()
    except DataError as error:
        assert "a.flac" in error.message


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_stretch_of_a_file_is_what_the_whole_has_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    audio.write(path, hiss(3.0, 1))
    whole, part = audio.read(path), audio.stretch(path, 1.0, 1.5)
    assert np.allclose(part, whole[16_000:24_000], atol=1e-4)


def test_a_stretch_is_cut_at_the_ends_of_the_file(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", hiss(1.0, 1))
    assert len(audio.stretch(tmp_path / "a.wav", -1.0, 0.25)) == 4_000
    assert len(audio.stretch(tmp_path / "a.wav", 0.75, 9.0)) == 4_000
    with pytest.raises(DataError, match=r"ends before 2\.0 s"):
        audio.stretch(tmp_path / "a.wav", 2.0, 3.0)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_sixteen_bits_survive_the_way_through_a_float(values: list[int]) -> None:
    samples = np.array(values, dtype=np.int16)
    assert (to_int16(samples.astype(np.float32) / np.float32(32767)) == samples).all()


def test_what_is_too_loud_clips() -> None:
    assert to_int16(np.array([2.0, -2.0, 1.0, 0.0], dtype=np.float32)).tolist() == [
        32767, -32768, 32767, 0,
    ]  # fmt: skip
