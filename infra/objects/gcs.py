"""Objects in a Google Cloud Storage bucket."""

from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import GCSStore

from infra.objects.store import StoredObjects

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig


def gcs_objects(
    bucket: str, prefix: str = "", *, endpoint: str | None = None, retry_seconds: float = 30.0
) -> StoredObjects:
    """Objects below a prefix of a bucket; their URIs are ``gs://bucket/prefix/…``.

    Credentials are found as Google's own clients find them (Application Default Credentials).

    Args:
        bucket: The bucket's name.
        prefix: Path segments joined by ``/``, or nothing.
        endpoint: ``http://host:port`` of an emulator, which is spoken to without credentials.
        retry_seconds: How long a request is tried again while the service fails.
    """
    config: GCSConfig = {}
    client: ClientConfig = {"connect_timeout": timedelta(seconds=5)}
    if endpoint is not None:
        config = {"base_url": endpoint.rstrip("/"), "bearer_token": "emulator"}
        client = {**client, "allow_http": endpoint.startswith("http://")}
    retry: RetryConfig = {"retry_timeout": timedelta(seconds=retry_seconds)}
    store = GCSStore(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options=client,
        retry_config=retry,
    )

    def create(key: str, data: bytes) -> bool:
        try:
            obstore.put(store, key, data, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    root = f"gs://{bucket}/{prefix}" if prefix else f"gs://{bucket}"
    return StoredObjects(store, root, create)
