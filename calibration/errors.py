"""What calibration refuses, each with the name, the value and the way out."""

import numpy as np
from numpy.typing import NDArray


class CalibrationError(ValueError):
    """Base of every refusal of this package."""


class InvalidGradeError(CalibrationError):
    """A grade is missing, not a whole number, or counted a negative number of times."""


class ConstantItemError(CalibrationError):
    """An item was answered in one category only, so nothing can be learned about it."""


class UnknownItemError(CalibrationError):
    """An item is named that the responses don't hold, or one that has no answer at all."""


class TooFewRespondentsError(CalibrationError):
    """Fewer than two respondents gave an answer."""


class TooFewItemsError(CalibrationError):
    """One item, answered once by each respondent, says nothing about a trait behind it."""


class ShapeError(CalibrationError):
    """Arrays that belong together differ in shape."""


class SettingError(CalibrationError):
    """A setting is outside its allowed range."""


class NotConvergedError(CalibrationError):
    """The search for the mode ended without finding one.

    Attributes:
        at: The coordinates where it ended, where that is known.
    """

    def __init__(self, message: str, at: NDArray[np.float64] | None = None) -> None:
        super().__init__(message)
        self.at = at


class NonFiniteError(CalibrationError):
    """A number that is to be kept is NaN or infinite."""
