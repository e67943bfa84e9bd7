"""The errors of the library: one root, and the builtin a caller would catch anyway."""

__all__ = [
    "ApproximationWarning",
    "CheckpointError",
    "CheckpointWriteError",
    "DataFormatError",
    "DataNotFoundError",
    "DataRangeWarning",
    "EventShapeError",
    "InvalidArgumentError",
    "NebPPLError",
    "NebPPLWarning",
    "NonFiniteDataError",
    "NotAnEnergyError",
    "StartError",
    "TrainingDivergedError",
    "WalkError",
    "WalkWarning",
]


class NebPPLError(Exception):
    """Root of every error that `neb_ppl` raises on purpose."""


class InvalidArgumentError(NebPPLError, ValueError):
    """An argument has a value outside its domain."""


class EventShapeError(NebPPLError, ValueError):
    """An array does not have the event shape of the energy."""


class NonFiniteDataError(NebPPLError, ValueError):
    """Data hold NaN or infinite values."""


class NotAnEnergyError(NebPPLError, TypeError):
    """A density is needed where only a score is at hand."""


class DataNotFoundError(NebPPLError, FileNotFoundError):
    """A data file is not where it was looked for."""


class DataFormatError(NebPPLError, ValueError):
    """A data file is malformed."""


class CheckpointError(NebPPLError, ValueError):
    """A saved energy is damaged, or is not what was asked for."""


class CheckpointWriteError(NebPPLError, OSError):
    """A saved energy could not be written."""


class StartError(NebPPLError, ValueError):
    """A walk cannot start where it was told to."""


class WalkError(NebPPLError, RuntimeError):
    """A walk broke down and its draws would mislead."""


class TrainingDivergedError(NebPPLError, ArithmeticError):
    """Training reached a loss that is not finite.

    Attributes
    ----------
    energy
        The last model whose validation risk was finite.
    history
        What was recorded until then.
    """

    def __init__(self, message: str, energy: object = None, history: object = None):
        super().__init__(message)
        self.energy = energy
        self.history = history


class NebPPLWarning(UserWarning):
    """Root of every warning that `neb_ppl` gives."""


class WalkWarning(NebPPLWarning):
    """Draws are usable, but something in the walk wants a look."""


class DataRangeWarning(NebPPLWarning):
    """Data lie far outside the range that an energy was trained on."""


class ApproximationWarning(NebPPLWarning):
    """What was asked for is approximate here, and something exact may be at hand."""
