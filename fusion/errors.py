"""The one exception tree.

    FusionError                 anything a user may meet; its text is one clear line
    ├── ConfigError             a wrong key or value, named with file and line       exit 2
    ├── InputError              a file or message that cannot be used                exit 3
    │   ├── RecordingError      a recording: names the file and the offset
    │   └── EvidenceError       evidence that must not be decoded
    │       └── UnknownProfileError   names the profiles that are served
    ├── ModelError              a model file missing, corrupt or of another trunk    exit 4
    ├── UnavailableError        a peer, port or device that is not there             exit 5
    │   ├── SensorError         a live sensor that is not there or broke off
    │   └── OverloadedError     the peer refused for now; carries `retry_after_s`
    ├── ProtocolError           a peer that breaks the stream's contract             exit 6
    ├── SpoolError              the durable spool cannot be used                     exit 7
    ├── DamagedError            done, but from damaged recordings                    exit 8
    └── PartialError            done, but for recordings that could not be read      exit 9

Foreign errors are translated once, where the foreign library is called.  `exit_code` is what a
console script ends with; an error that is none of these is a defect, and exits 70.
"""


class FusionError(Exception):
    """Root of everything a user may meet. `str()` is one line saying what is wrong and what to do."""

    exit_code = 1


class ConfigError(FusionError):
    """A wrong key or value in a configuration or task file, named with file and line."""

    exit_code = 2


class InputError(FusionError):
    """A file or message that cannot be used as it is."""

    exit_code = 3


class RecordingError(InputError):
    """A recording that cannot be read; the text names the file and, where known, the byte offset."""


class EvidenceError(InputError):
    """Evidence that is malformed, oversized or corrupt and was refused before it was decoded."""


class UnknownProfileError(EvidenceError):
    """Evidence made by a trunk that is not served; the text lists the profiles that are."""


class ModelError(FusionError):
    """A model file that is missing, corrupt or made for another trunk."""

    exit_code = 4


class UnavailableError(FusionError):
    """A peer that is not there, a port that is taken, a device that does not answer."""

    exit_code = 5


class SensorError(UnavailableError):
    """A live sensor that cannot be opened or broke off; the text names its URL."""


class OverloadedError(UnavailableError):
    """The peer refused the work for now; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ProtocolError(FusionError):
    """A peer that breaks the contract of the stream (version, order, identity)."""

    exit_code = 6


class SpoolError(FusionError):
    """The durable spool cannot be opened or written."""

    exit_code = 7


class DamagedError(FusionError):
    """The work is done, but on what was sound of damaged recordings; the text names them and what is wrong."""

    exit_code = 8


class PartialError(FusionError):
    """The work is done for some of what was asked; the text names what it could not be done for, and why."""

    exit_code = 9
