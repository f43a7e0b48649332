"""Everything that can go wrong in a way a person can mend.

WakewordError(message, hint)
 |- RecipeError       the recipe cannot be used; lists every problem
 |- DataError         clips or streams missing, empty, unreadable, too few groups to split
 |- CheckpointError   missing, damaged (hash), or made for other features or another architecture
 |- DeviceError       no GPU, out of memory (names the batch size to try), no sound
 |- JudgeError        judge unreachable, too slow, unauthorised, or talking nonsense
 `- BusyError         a job already holds the GPU
"""


class WakewordError(Exception):
    """A sentence that says what happened, and a hint that says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class RecipeError(WakewordError):
    """The recipe cannot be used; `problems` names each fault with its dotted path."""

    def __init__(self, message: str, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]), hint)
        self.problems = problems


class DataError(WakewordError):
    """Clips or streams are missing, empty, unreadable, or of too few groups to split."""


class CheckpointError(WakewordError):
    """A checkpoint is missing, damaged, or made for other features or another architecture."""


class DeviceError(WakewordError):
    """The machine cannot do it: no GPU, out of memory, or no sound."""


class JudgeError(WakewordError):
    """The judge is unreachable, too slow, refuses, or talks nonsense."""


class BusyError(WakewordError):
    """A job already holds the GPU."""
