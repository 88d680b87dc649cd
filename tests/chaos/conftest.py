from tests.support.programs import (
    bus,
    compiled_programs,
    google_target,
    new_nexus,
    nexus,
    project,
)

__all__ = ["bus", "compiled_programs", "google_target", "new_nexus", "nexus", "project"]
