"""Balanced, augmented batches on the device, the same for the same (seed, epoch, step).

Packed audio stays int16; a window is cut by index arithmetic, so nothing is copied twice. What a
window covers beyond its clip is filled by the background that is mixed under all of it.

    clip            |--------[ word ]----|
    window   [===================|==]            ends 0 to shift_ms after the word
             ~~~~~~~~~~~~~~~~~~~~~~~~            background under all of the window
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.audio import SAMPLE_RATE
from engine.augment import (
    MOST_CLIPPED_DB,
    SPREAD_DB,
    add_background,
    draw_snr_db,
    ease_db,
    gain,
    mix,
    overdrive,
    telephone,
)
from engine.dataset import Pack, PackedClip, Selection
from engine.device import sent
from engine.features import grid
from engine.pitch import Pitch, Speed, pitches, speeds, stretch
from engine.recipe import Recipe
from engine.rooms import MOST_MEASURED, Rooms, parts
from engine.spans import Spans, free_spans, mined_spans, partial_spans, word_spans

# Shares of the negatives that are not hard ones; the rest is speech.
WORD_SHARE = 0.3
NOISE_SHARE = 0.15
SPEECH_BACKGROUND = 0.25
RESIDENT_SHARE = 0.3
MOST_OF_ONE_FIND = 0.005
CLEAN_SNR_DB = 40.0
LEAST_RESIDENT = 16 * SAMPLE_RATE
STRETCHED = -2  # no place in the bank of speeds


def step_generator(seed: int, epoch: int, step: int, purpose: str = "batch") -> torch.Generator:
    """A CPU generator that depends on its arguments alone."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{epoch}:{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


# Cuts the noise `(R, N)` of some rows `(R,)` of a batch, which was drawn for all of them.
Background = Callable[[Tensor], Tensor]
# Begin and end of clips, where windows stop, and where they begin at the latest, `(B,)` each.
Picked = tuple[Tensor, Tensor, Tensor, Tensor]


def _joined(parts: list[Picked]) -> Picked:
    begin, end, stop, word = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return begin, end, stop, word


class Batches:
    """Draws training batches; `hard` holds where in the audio the model was fooled last."""

    def __init__(
        self, pack: Pack, selection: Selection, recipe: Recipe, device: torch.device
    ) -> None:
        self.recipe, self.device = recipe, device
        self.grid = grid(recipe.features)
        window = self.grid.model_samples
        shift = recipe.augment.shift_ms * SAMPLE_RATE // 1000
        self.speed = Speed(speeds(recipe.augment))
        self.pitch = Pitch(pitches(recipe.augment))
        slowed = [self.speed.source_samples(ratio, window) for ratio in self.speed.bank]
        shortest = min([window, *slowed])
        self.positives = word_spans(selection.positives, shift, shortest)
        self.words_of: Tensor | None = None  # which word each positive is, where that is asked
        self.partials = partial_spans(selection.positives, shift)
        self.words = word_spans(selection.negatives, shift, shortest)
        self.speech = free_spans(selection.speech, window)
        self.noise = free_spans(selection.noise, window)
        self.hard = Spans(*(torch.zeros(0, dtype=torch.int64) for _ in range(4)))
        self.mined = mined_spans(selection.mined, window)
        self.audio = _resident(pack.audio, device)
        self.cuts = None if pack.cuts is None else _resident(_padded(pack.cuts), device)
        responses = [self._clip(room) for room in self._some(selection.rooms)]
        self.rooms = Rooms(
            responses, recipe.augment, self.grid.window_samples, recipe.train.seed
        ).to(device)

    def _some(self, rooms: tuple[PackedClip, ...]) -> list[PackedClip]:
        """As many measured rooms as memory is spent on, drawn for the run."""
        order = torch.randperm(
            len(rooms), generator=step_generator(self.recipe.train.seed, 0, 0, "rooms")
        )
        return [rooms[n] for n in sorted(order[:MOST_MEASURED].tolist())]

    def _clip(self, clip: PackedClip) -> Tensor:
        begin, end = torch.tensor([clip.offset]), torch.tensor([clip.offset + clip.samples])
        return self._gather(begin, end, begin, clip.samples)[0].cpu()

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Give the batch of a step: waveforms `(B, N)` and labels `(B,)`, augmented."""
        waveform, labels, _ = self.draw_for_both(epoch, step)
        return waveform, labels

    def draw_for_both(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give the batch of a step, and what teachers hear of it `(B, N)`.

        It is the same, or, where the recipe says so, the clips before they are put into rooms and
        noise, over a background that can hardly be heard.
        """
        generator = step_generator(self.recipe.train.seed, epoch, step)
        spans, labels = self._choose(generator)
        waveform = self._move_pitch(self._cut(spans, generator), generator)
        clean = waveform.clone() if self.recipe.distill.hears == "clean" else None
        heard = self._augment(waveform, epoch, generator, clean)
        return heard, sent(labels, self.device), heard if clean is None else clean

    def plain(self, count: int) -> Tensor:
        """Give `(count, N)` windows without augmentation, to fit the feature statistics on."""
        generator = step_generator(self.recipe.train.seed, 0, 0, "statistics")
        half = [self._pick(self.positives, count // 2, generator)]
        rest = next(spans for spans in (self.speech, self.noise, self.words) if len(spans))
        half.append(self._pick(rest, count - count // 2, generator))
        begin, end, stop, _ = _joined(half)
        window = self.grid.window_samples
        waveform = self._gather(begin, end, stop - window, window)
        background = self._background(count, generator)(torch.arange(count))
        return mix(waveform, background, torch.full((count,), 25.0, device=self.device))

    def _choose(self, generator: torch.Generator) -> tuple[Picked, Tensor]:
        """Pick the clips of a batch and where each window stops."""
        train = self.recipe.train
        positives = max(1, round(train.batch_size * train.positive_share))
        negatives = train.batch_size - positives
        mined = self._mined(negatives)
        hard = round((negatives - mined) * train.hard_share) if len(self.hard) else 0
        counts = (positives, mined, hard, *self._shares(negatives - mined - hard))
        others = (self.partials, self.words, self.noise, self.speech)
        sources = zip((self.positives, self.mined, self.hard, *others), counts, strict=True)
        drawn = [self._pick(spans, count, generator) for spans, count in sources if count]
        labels = torch.zeros(train.batch_size)
        labels[:positives] = 1.0
        if self.words_of is not None:
            clips = torch.searchsorted(self.positives.begin, drawn[0][0])
            labels[:positives] = self.words_of[clips]
        return _joined(drawn), labels

    def _mined(self, negatives: int) -> int:
        """How many negatives are finds: a share that a few of them alone do not fill."""
        share = min(self.recipe.data.hard_negatives, MOST_OF_ONE_FIND * len(self.mined))
        return max(1, round(negatives * share)) if share > 0 else 0

    def _shares(self, count: int) -> tuple[int, int, int, int]:
        """Divide negatives into partials, words, noise and speech, of what there is."""
        partials = round(count * self.recipe.train.partial_share) if len(self.partials) else 0
        rest = count - partials
        words = min(round(count * WORD_SHARE), rest) if len(self.words) else 0
        noise = min(round(count * NOISE_SHARE), rest - words) if len(self.noise) else 0
        rest -= words + noise
        if len(self.speech):
            return partials, words, noise, rest
        if len(self.noise):
            return partials, words, noise + rest, 0
        return partials, words + rest, 0, 0

    @staticmethod
    def _pick(spans: Spans, count: int, generator: torch.Generator) -> Picked:
        """Draw clips and the sample at which each window stops.

        Free spans are drawn by length, so that every second of a stream is as likely as another.
        """
        room = (spans.high - spans.low).double() + 1
        long = not spans.evenly and room.max() > 2 * SAMPLE_RATE
        weights = room if long else torch.ones_like(room)
        row = torch.multinomial(weights, count, replacement=True, generator=generator)
        spread = torch.rand(count, generator=generator, dtype=torch.float64)
        stop = spans.low[row] + (spread * room[row]).long()
        word = stop if spans.word is None else spans.word[row]
        return spans.begin[row], spans.end[row], stop, word

    def _gather(self, begin: Tensor, end: Tensor, start: Tensor, samples: int) -> Tensor:
        """Cut `(B, samples)` from the pack; what lies outside of the clip is silent."""
        if self.cuts is None:
            return self._from(self.audio, [begin, end, start], samples)
        waveform, base = torch.empty(len(begin), samples, device=self.device), len(self.audio)
        for audio, own, past in ((self.audio, begin < base, 0), (self.cuts, begin >= base, base)):
            rows = own.nonzero()[:, 0]
            if len(rows):
                places = [edge[rows] - past for edge in (begin, end, start)]
                waveform[sent(rows, self.device)] = self._from(audio, places, samples)
        return waveform

    def _from(self, audio: Tensor, places: list[Tensor], samples: int) -> Tensor:
        """Cut `(B, samples)`, at least one row, from audio that is as long as a cut."""
        (begin, end, start), home = places, audio.device
        first = start.clamp(0, len(audio) - samples)
        if home.type == "cpu":
            cut = torch.stack([audio[at : at + samples] for at in first.tolist()])
        else:
            cut = audio.unfold(0, samples, 1)[sent(first, home)]
        for row in (first != start).nonzero()[:, 0].tolist():
            cut[row] = cut[row].roll(int(first[row] - start[row]))
        beyond = ((begin > start) | (end < start + samples)).nonzero()[:, 0]
        if len(beyond):
            index = torch.arange(samples, device=home, dtype=torch.int32)
            low, high = (sent((edge - start)[beyond, None].int(), home) for edge in (begin, end))
            cut[sent(beyond, home)] *= (index >= low) & (index < high)
        return sent(cut, self.device).float().mul_(1 / 32768)

    def _cut(self, picked: Picked, generator: torch.Generator) -> Tensor:
        """Cut the batch's windows, some of them at another speed or tempo."""
        begin, end, stop, _ = picked
        window, bank = self.grid.window_samples, self.speed.bank
        chosen, slower = self._draw_speeds(picked, generator), self._draw_tempos(picked, generator)
        waveform = torch.empty(len(begin), window, device=self.device)
        rows = (slower != 1).nonzero()[:, 0]
        if len(rows):
            held, chosen[rows] = (window / slower[rows]).ceil().long(), STRETCHED
            cut = self._gather(begin[rows], end[rows], stop[rows] - held, int(held.max()))
            waveform[sent(rows, self.device)] = stretch(cut, slower[rows], window)
        for index in range(-1, len(bank)):
            samples = self.speed.source_samples(bank[index], window) if index >= 0 else window
            for rows in parts((chosen == index).nonzero()[:, 0], self.device):
                cut = self._gather(begin[rows], end[rows], stop[rows] - samples, samples)
                played = self.speed(cut, bank[index], window) if index >= 0 else cut
                waveform[sent(rows, self.device)] = played
        return waveform

    def _draw_speeds(self, picked: Picked, generator: torch.Generator) -> Tensor:
        """Draw places in the bank of speeds `(B,)`, -1 for none; a long word is not slowed down."""
        _, _, stop, word = picked
        window, bank, count = self.grid.model_samples, self.speed.bank, len(stop)
        changed = torch.rand(count, generator=generator) < self.recipe.augment.speed
        chosen = torch.randint(max(len(bank), 1), (count,), generator=generator)
        if not bank:
            return torch.full((count,), -1)
        held = torch.tensor([self.speed.source_samples(ratio, window) for ratio in bank])
        return chosen.masked_fill(~changed | (held[chosen] < stop - word), -1)

    def _draw_tempos(self, picked: Picked, generator: torch.Generator) -> Tensor:
        """Draw by how much clips are slowed down `(B,)`, 1 for not at all, as for a long word."""
        _, _, stop, word = picked
        augment = self.recipe.augment
        if not augment.tempo:
            return torch.ones(len(stop))
        changed, spread = torch.rand(2, len(stop), generator=generator)
        slower = torch.exp((2 * spread - 1) * math.log1p(augment.tempo_range))
        fits = self.grid.model_samples / slower >= stop - word
        return torch.where(fits & (changed < augment.tempo), slower, 1.0)

    def _move_pitch(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """Move the pitch of some of `(B, N)`, in place."""
        bank = self.pitch.bank
        moved = torch.rand(len(waveform), generator=generator) < self.recipe.augment.pitch
        chosen = torch.randint(max(len(bank), 1), (len(waveform),), generator=generator)
        rows = moved.nonzero()[:, 0]
        if bank and len(rows):
            here = sent(rows, self.device)
            waveform[here] = self.pitch(waveform[here], chosen[rows])
        return waveform

    def _background(self, count: int, generator: torch.Generator) -> Background:
        """Draw noise for each clip, some of it speech; white noise where there is neither."""
        window = self.grid.window_samples
        sources = [spans for spans in (self.noise, self.speech) if len(spans)]
        if not sources:
            hiss = torch.randn(count, window, generator=generator).mul_(0.01)
            return lambda rows: sent(hiss[rows], self.device)
        speech = round(count * SPEECH_BACKGROUND) if len(sources) == 2 else 0
        drawn = [self._pick(sources[0], count - speech, generator)]
        if speech:
            drawn.append(self._pick(sources[1], speech, generator))
        order = torch.randperm(count, generator=generator)
        begin, end, stop, _ = (column[order] for column in _joined(drawn))
        return lambda rows: self._gather(begin[rows], end[rows], stop[rows] - window, window)

    def _backgrounds(self, count: int, generator: torch.Generator) -> Background:
        """Draw one to `noises` backgrounds for each clip, the first one the loudest."""
        most = self.recipe.augment.noises
        drawn = torch.randint(1, most + 1, (count,), generator=generator)
        softer_db = SPREAD_DB * torch.rand(most, count, generator=generator)
        several = [self._background(count, generator) for _ in range(most)]

        def cut(rows: Tensor) -> Tensor:
            noise = several[0](rows)
            for already, further in enumerate(several[1:], start=1):
                here = (drawn[rows] > already).nonzero()[:, 0]
                softer = sent(softer_db[already, rows[here]], self.device)
                if len(here):
                    add_background(noise, sent(here, self.device), further(rows[here]), softer)
            return noise

        return cut

    def _augment(
        self,
        waveform: Tensor,
        epoch: int,
        generator: torch.Generator,
        clean: Tensor | None = None,
    ) -> Tensor:
        """Room, distance, background, overdrive, telephone and gain for `(B, N)`, in place.

        A copy of it that stays `clean` gets the background alone, softly.
        """
        augment, count = self.recipe.augment, len(waveform)
        self.rooms.hear(waveform, self.rooms.draw(augment, count, generator))
        background = self._backgrounds(count, generator)
        easier_db = ease_db(augment, epoch, self.recipe.train.epochs)
        snr_db = sent(draw_snr_db(augment, count, generator, easier_db), self.device)
        clipped, on_line, cut, level = torch.rand(4, count, generator=generator)
        cut_db = torch.where(clipped < augment.clipping, MOST_CLIPPED_DB * cut, 0.0)
        cut_db = sent(cut_db, self.device)
        spread_db = augment.softer_db + augment.gain_db
        gain_db = sent(level * spread_db - augment.softer_db, self.device)
        for rows in parts(torch.arange(count), self.device):
            here = slice(int(rows[0]), int(rows[-1]) + 1)
            noise = background(rows)
            heard = mix(waveform[here], noise, snr_db[here])
            if clean is not None:
                clean[here] = mix(clean[here], noise, torch.full_like(snr_db[here], CLEAN_SNR_DB))
            if augment.clipping > 0:
                heard = overdrive(heard, cut_db[here])
            line = sent((on_line[here] < augment.telephone).nonzero()[:, 0], self.device)
            if len(line):
                heard[line] = telephone(heard[line])
            waveform[here] = gain(heard, gain_db[here])
        return waveform


def _padded(audio: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Make a few cuts as long as the longest window; many are left where they are."""
    missing = LEAST_RESIDENT - len(audio)
    return np.pad(audio, (0, missing)) if missing > 0 else audio


def _resident(audio: npt.NDArray[np.int16], device: torch.device) -> Tensor:
    """Put the packed audio on the device if it takes little of its memory; else map it."""
    mapped = torch.from_numpy(np.asarray(audio))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if audio.nbytes < RESIDENT_SHARE * free:
            return mapped.to(device)
    return mapped
