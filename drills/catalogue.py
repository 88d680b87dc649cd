"""Every drill, by name."""

from drills.idempotency_storm import IDEMPOTENCY_STORM

DRILLS = {drill.name: drill for drill in (IDEMPOTENCY_STORM,)}
