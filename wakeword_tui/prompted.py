"""Record in words: the prompt, where the sitting is, the level, what was heard and kept."""

from textual.content import Content

from engine.prompts import Prompt
from engine.sitting import Booth
from engine.source import SourceHealth
from engine.take import Take
from wakeword_tui.recording import kept_line, next_step, shown, speaker_line, verdict

FLOOR_DB = -60.0
Line = Content | str | tuple[str, str]


def title(booth: Booth) -> str:
    """Which prompt this is."""
    prompt, (place, total) = booth.plan.now, booth.plan.place
    if prompt is None:
        return "done"
    alone = ", negatives alone" if booth.plan.negatives_only else ""
    return f"{'wake word' if prompt.wakeword else 'negative'} {place} of {total}{alone}"


def prompt_lines(booth: Booth, width: int) -> list[Line]:
    """What to say, how, and what the next key is."""
    prompt = booth.plan.now
    if prompt is None:
        all_said, keys = ("✓ that was all", "bold $success"), ("y  copy this   esc  leave", "$dim")
        return [all_said, "", next_step(booth), keys]
    style = "bold $primary" if prompt.wakeword else "bold $violet"
    return [(large(prompt.text, width), style), manner(prompt), "", *state_lines(booth)]


def manner(prompt: Prompt) -> Line:
    """How to say it."""
    return prompt.manner if prompt.wakeword else ("not the wake word: read it as it stands", "$dim")


def large(text: str, width: int) -> str:
    """A text with space between its letters, where there is room."""
    spaced = " ".join(text)
    return spaced if len(spaced) <= width else text


def state_lines(booth: Booth) -> list[Line]:
    """What happens, and what enter does."""
    take = booth.take
    if booth.stage == "recording" and booth.recorder is not None:
        return [
            (f"● recording {booth.recorder.seconds:.1f} s", "$now"),
            ("it ends by itself", "$dim"),
        ]
    if take is None:
        return [("enter  then say it", "$dim"), ""]
    if take.advice:
        keep = "  k keeps it all the same" if take.usable else ""
        return [(f"✗ {take.advice[0]}", "$error"), (f"enter  again{keep}", "$dim")]
    return [("✓ good", "$success"), ("enter  keep   r  again   p  play", "$dim")]


def level_line(booth: Booth, width: int) -> Line:
    """The peak of the last moment, from -60 dBFS to full scale."""
    assert booth.recorder is not None
    level_db, clipped = booth.recorder.level_db, booth.recorder.clipped
    number = " clipped" if clipped else f"{max(level_db, FLOOR_DB):4.0f} dB"
    room = width - len(number) - 1
    full = round(room * min(1.0, max(0.0, 1 - level_db / FLOOR_DB)))
    colour = "$error" if clipped else "$primary"
    return Content.assemble(("━" * full, colour), ("━" * (room - full), "$grid"), f" {number}")


def waiting_line(health: SourceHealth) -> Line:
    """What to do where there is no sound."""
    return health.hint or ("" if health.state == "ended" else "…"), "$warning"


def verdict_lines(take: Take) -> list[Line]:
    """What is wrong with a take, a line each."""
    return [(f"✗ {said}", "$error") for said in take.advice] or [(f"✓ {verdict(take)}", "$success")]


def kept_lines(booth: Booth, fold: int) -> list[Line]:
    """What was kept, where, and what becomes of it."""
    return [kept_line(booth), (shown(booth.keeper.manifest), "$dim"), speaker_line(booth, fold)]
