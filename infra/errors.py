"""Every error that Nexus raises on purpose, on one screen.

NexusError
├── InputError              exit 2: what was asked for is wrong; names field, value and way out
│   ├── ResponsesError        a cell, a column or a scale of a responses file
│   ├── ParametersError       an iteration that exists with other parameters; a wrong profile
│   └── SettingsError         an environment variable or option
├── ServiceUnavailableError exit 3: a server, database or bucket can't be reached
├── TransientError          worth another try, with a delay
├── TerminalError           no try will help: dead letter, and the saga is told
│   ├── DuplicateKeyError     two source rows with one key
│   ├── SchemaMismatchError   rows that don't fit their table
│   ├── BatchJobError         a batch job ended without its output
│   └── CannotCalibrateError  responses that no model can be fitted to
└── StaleClaimError         the fencing token was overtaken: what this worker did is not kept
"""


class NexusError(Exception):
    """The base of all."""


class InputError(NexusError):
    """What was asked for is wrong; the text names the field, the value and the way out."""


class ResponsesError(InputError):
    """A cell, a column or a scale of a responses file can't be used."""


class ParametersError(InputError):
    """The iteration can't be started with these parameters."""


class SettingsError(InputError):
    """A setting has a value that can't be used."""


class ServiceUnavailableError(NexusError):
    """A server, database or bucket can't be reached."""


class TransientError(NexusError):
    """Worth another try after ``retry_after_seconds``."""

    def __init__(self, reason: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class TerminalError(NexusError):
    """No further try will help."""


class DuplicateKeyError(TerminalError):
    """Two rows of one source carry the same key."""


class SchemaMismatchError(TerminalError):
    """Rows do not fit the table that they are meant for."""


class BatchJobError(TerminalError):
    """A batch job ended without its output."""


class CannotCalibrateError(TerminalError):
    """The responses can't be calibrated; the text names the item or respondent."""


class StaleClaimError(NexusError):
    """The fencing token was overtaken; nothing of this worker's attempt is kept."""
