"""IAM policies: kept and given back, with an etag against lost updates. Nobody is ever refused.

Source: google.iam.v1 API reference.
"""

import hashlib
from collections.abc import Callable, Sequence

from embedded_pubsub.changes import Change, DropPolicy, PutPolicy
from embedded_pubsub.errors import AbortedError, InvalidArgumentError
from embedded_pubsub.protos import Policy, Proto
from embedded_pubsub.settings import copy

NO_POLICY_ETAG = b"\x00\x20\x01"
MAX_BINDINGS = 1500


class Policies:
    """The policies of all resources of a server.

    Args:
        saved: What the store holds.
        record: Told of every change that must be made durable.
    """

    def __init__(self, saved: Sequence[PutPolicy], record: Callable[[Change], None]) -> None:
        self._record = record
        self._by_resource = {resource: Policy.FromString(body) for resource, body in saved}

    def get(self, resource: str) -> Proto:
        """Give the policy of a resource, empty where none was set."""
        return self._by_resource.get(resource) or Policy(etag=NO_POLICY_ETAG)

    def set(self, resource: str, wanted: Proto) -> Proto:
        """Replace the policy of a resource; gives it with its new etag.

        Raises:
            AbortedError: The policy has an etag, and it is not that of the present policy.
            InvalidArgumentError: A binding lacks its role, or there are too many.
        """
        present = self.get(resource)
        if wanted.etag and wanted.etag != present.etag:
            raise AbortedError(
                f"policy.etag: {resource} was changed since its policy was read; read it again."
            )
        if len(wanted.bindings) > MAX_BINDINGS:
            raise InvalidArgumentError(
                f"policy.bindings: {len(wanted.bindings)}; at most {MAX_BINDINGS} are allowed."
            )
        for binding in wanted.bindings:
            if not binding.role:
                raise InvalidArgumentError("policy.bindings: a binding needs a role.")
        policy = copy(wanted)
        policy.version = policy.version or 1
        content = present.etag + policy.SerializeToString(deterministic=True)
        policy.etag = hashlib.blake2s(content, digest_size=8).digest()
        self._by_resource[resource] = policy
        self._record(PutPolicy(resource, policy.SerializeToString()))
        return policy

    def drop(self, resource: str) -> None:
        """Forget the policy of a resource that is deleted."""
        if self._by_resource.pop(resource, None) is not None:
            self._record(DropPolicy(resource))
