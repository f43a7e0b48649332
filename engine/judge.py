"""Judge: a larger model behind HTTP hears the window again. Its wire format, and the client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge makes of a window: whether its `score` reaches its `threshold`."""

    accepted: bool
    score: float
    threshold: float
    model: str
    took_ms: float
