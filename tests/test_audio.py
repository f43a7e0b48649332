from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny import hiss, tone

from engine import audio
from engine.audio import Resampler, to_int16
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


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        audio.write(path, tone(440, 0.1))


def test_downsampling_leaves_nothing_of_what_16_khz_cannot_hold(tmp_path: Path) -> None:
    high = 0.5 * np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000)
    soundfile.write(tmp_path / "a.wav", high, 48_000)
    assert np.abs(audio.read(tmp_path / "a.wav")[800:-800]).max() < 0.01


def write_noise(path: Path, rate: int, seconds: float, **how: str) -> None:
    """Two channels of noise, a second at a time: an encoder may not take more at once."""
    rng = np.random.default_rng(rate)
    with soundfile.SoundFile(path, "w", rate, 2, **how) as file:
        for start in range(0, round(seconds * rate), rate):
            file.write(0.2 * rng.standard_normal((min(rate, round(seconds * rate) - start), 2)))


@pytest.mark.parametrize("rate", RATES)
def test_the_units_of_a_long_file_are_the_whole_file(tmp_path: Path, rate: int) -> None:
    """75.3 s are units of 30, 30 and 15.3 s."""
    write_noise(tmp_path / "a.wav", rate, 75.3)
    recording = audio.Recording(tmp_path / "a.wav")
    parts = list(recording.blocks())
    assert [len(part) for part in parts] == [480_000, 480_000, 244_800]
    assert recording.seconds == pytest.approx(75.3)
    whole = audio.read(tmp_path / "a.wav")
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus"])
def test_a_unit_is_the_same_whatever_was_read_before(tmp_path: Path, name: str) -> None:
    how = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    write_noise(tmp_path / name, 24_000, 100.0, **how)
    through = list(audio.Recording(tmp_path / name).blocks())
    recording = audio.Recording(tmp_path / name)
    for unit in (2, 3, 0, 1):
        passed_s = list(recording.approach(unit))
        assert passed_s == sorted(passed_s)
        assert np.array_equal(recording.read(unit), through[unit])
    assert recording.read(4).size == 0
    assert recording.lost == []


@given(samples=st.integers(1, 2000), rate=st.sampled_from([8_000, 44_100]))
def test_a_short_file_is_one_unit(
    tmp_path_factory: pytest.TempPathFactory, samples: int, rate: int
) -> None:
    path = tmp_path_factory.mktemp("short") / "a.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, samples), rate)
    (unit,) = audio.Recording(path).blocks()
    assert unit == pytest.approx(audio.read(path), abs=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_without_samples_has_no_units(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), rate)
    assert list(audio.Recording(tmp_path / "a.wav").blocks()) == []


def test_a_long_file_that_cannot_be_opened_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "odd.wav").write_bytes(b"hello, a text file")
    for name in ("odd.wav", "gone.wav"):
        with pytest.raises(DataError, match=name):
            audio.Recording(tmp_path / name)


def test_a_damaged_stretch_is_silent_and_what_follows_is_in_its_place(tmp_path: Path) -> None:
    """A hundredth of the file's bytes, 0.6 s of 60 s, from its middle on."""
    write_noise(tmp_path / "a.flac", 16_000, 60.0)
    whole = np.concatenate(list(audio.Recording(tmp_path / "a.flac").blocks()))
    content = bytearray((tmp_path / "a.flac").read_bytes())
    middle, size = len(content) // 2, len(content) // 100
    content[middle : middle + size] = bytes(size)
    (tmp_path / "a.flac").write_bytes(content)
    recording = audio.Recording(tmp_path / "a.flac")
    read = np.concatenate(list(recording.blocks()))
    ((start_s, end_s),) = recording.lost
    assert 29 < start_s < 31 < end_s + 1 < 33
    lost = slice(round(start_s * 16_000), round(end_s * 16_000))
    assert not read[lost].any()
    whole[lost] = 0.0
    assert np.array_equal(read, whole)


def test_samples_that_are_not_numbers_are_a_damaged_stretch(tmp_path: Path) -> None:
    """One of them at 10 s costs the piece of at most 0.25 s that it is in."""
    samples = np.full(40 * 16_000, 0.25)
    samples[10 * 16_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    recording = audio.Recording(tmp_path / "a.wav")
    read = np.concatenate(list(recording.blocks()))
    ((start_s, end_s),) = recording.lost
    assert start_s <= 10.0 < end_s <= start_s + 0.25
    assert (read == 0.25).sum() == 40 * 16_000 - round((end_s - start_s) * 16_000)


def test_a_lossy_file_that_breaks_off_ends_there(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.mp3", 16_000, 60.0)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 3])
    recording = audio.Recording(tmp_path / "a.mp3")
    read = np.concatenate(list(recording.blocks()))
    assert 15 * 16_000 < len(read) < 25 * 16_000
    assert recording.lost[-1][1] == pytest.approx(60.0, abs=0.2)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
@pytest.mark.parametrize("start_s", [0.0, 0.4, 7.3, 39.0])
def test_a_stretch_is_what_the_whole_file_has_there(
    tmp_path: Path, name: str, start_s: float
) -> None:
    write_noise(tmp_path / name, 44_100, 40.0)
    whole = audio.read(tmp_path / name)[round(start_s * 16_000) : round((start_s + 2) * 16_000)]
    found = audio.stretch(tmp_path / name, start_s, start_s + 2)
    assert found == pytest.approx(whole, abs=1e-3 if name == "a.ogg" else 1e-6)


def test_a_stretch_after_the_end_is_a_data_error(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", hiss(2.0, 1))
    with pytest.raises(DataError, match="nothing from 5 to 6 s"):
        audio.stretch(tmp_path / "a.wav", 5.0, 6.0)


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


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_sixteen_bits_survive_the_way_through_a_float(values: list[int]) -> None:
    samples = np.array(values, dtype=np.int16)
    assert (to_int16(samples.astype(np.float32) / np.float32(32767)) == samples).all()


def test_what_is_too_loud_clips() -> None:
    assert to_int16(np.array([2.0, -2.0, 1.0, 0.0], dtype=np.float32)).tolist() == [
        32767, -32768, 32767, 0,
    ]  # fmt: skip


@given(
    st.sampled_from(RATES),
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_resampled_in_blocks_is_resampled_at_once(rate: int, sizes: list[int], seed: int) -> None:
    """But for the end, which waits for what comes next: 80 ms at most, at 11,025 Hz."""
    whole = np.random.default_rng(seed).standard_normal(sum(sizes)).astype(np.float32)
    resampler = Resampler(rate)
    parts = [resampler.push(block) for block in np.split(whole, np.cumsum(sizes)[:-1])]
    got, expected = np.concatenate(parts), audio.resample(whole, rate)
    assert 0 <= len(expected) - len(got) <= 1280
    assert np.abs(got - expected[: len(got)]).max(initial=0.0) < 1e-5


def test_a_recording_beyond_full_scale_is_heard_as_it_is_packed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.5, 3.0, -1e20, -0.25], 16_000, subtype="FLOAT")
    (unit,) = audio.Recording(tmp_path / "a.wav").blocks()
    assert unit.tolist() == [0.5, 1.0, -1.0, -0.25]
