"""Every error that a user can cause or meet: what happened with the number, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class TwoViewError(Exception):
    """Something the user can act on. `hint` names the next thing to try, often a command to type."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{super().__str__()}\nhint: {self.hint}" if self.hint else super().__str__()

    @property
    def message(self) -> str:
        """The message without the hint."""
        return super().__str__()


class VideoError(TwoViewError):
    """A file that cannot be read as video or sound, or holds too little of it."""


class SyncError(TwoViewError):
    """Two clocks could not be related reliably."""


class DetectorError(TwoViewError):
    """No person found, or a detector file that does not fit."""


class FormatError(TwoViewError):
    """A file that is truncated, of another format, or written by a newer version."""


class ConfigError(TwoViewError):
    """A setting with an unknown name, a wrong type or an impossible value."""


class SessionError(TwoViewError):
    """A session folder that lacks a take, a view or an earlier stage."""


class LifterError(TwoViewError):
    """A lifter or model file that does not fit the request."""


class TrainingError(TwoViewError):
    """Adaptation or pretraining that cannot start or had to stop."""


class StorageError(TwoViewError):
    """The disk is full, or a file cannot be written there."""


class MissingBackend(TwoViewError):  # noqa: N818
    """An optional package is not installed; the hint is the exact command that installs it."""


class WorkerError(TwoViewError):
    """A task that no worker could do: it cannot be sent, or its workers died."""


class ClusterError(TwoViewError):
    """Workers that can do no task at all: nobody there, another version, or folders that they do not see."""


def joined(errors: Sequence[TwoViewError]) -> TwoViewError:
    """One error of the first one's kind that says what all of them say, each sentence and hint once."""
    message = "\nand: ".join(dict.fromkeys(error.message for error in errors))
    return type(errors[0])(message, hint="\n".join(dict.fromkeys(error.hint for error in errors if error.hint)))
