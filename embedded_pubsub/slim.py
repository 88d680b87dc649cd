"""A quick start for a process that only serves.

`google.pubsub_v1` loads Google's clients along with the types, and with them half of all that the
server would load. Here the package is entered without running its `__init__`. That is not for a
process in which anybody else may want the clients: it is done by `alone` only.
"""

import sys
from importlib.util import find_spec, module_from_spec

_PACKAGE = "google.pubsub_v1"


def leave_out_clients() -> None:
    """Have `google.pubsub_v1.types` import no clients; the first thing that a process does."""
    spec = find_spec(_PACKAGE)
    if spec is not None:
        sys.modules.setdefault(_PACKAGE, module_from_spec(spec))
