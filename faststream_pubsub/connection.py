"""Where to connect, and as whom."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

import grpc

from faststream_pubsub import forks
from faststream_pubsub.errors import ConnectError

# google.auth.credentials.Credentials or grpc.ChannelCredentials, neither of which has types
Credentials: TypeAlias = Any

SERVICE_TARGET: Final = "pubsub.googleapis.com:443"
EMULATOR_PROJECT: Final = "local-project"
EMULATOR_VARIABLE: Final = "PUBSUB_EMULATOR_HOST"
PROJECT_VARIABLE: Final = "GOOGLE_CLOUD_PROJECT"
_SCOPES: Final = ("https://www.googleapis.com/auth/pubsub",)

# Streams carry up to 20 MB; a dead peer on TLS is noticed after 40 s. Plain channels go to
# emulators, whose servers punish such pings.
_OPTIONS: Final = (
    # channels of one target share connections otherwise, dead ones too
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_KEEPALIVE: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server to talk to.

    Attributes:
        target: `host:port`.
        emulated: Plain text and no credentials.
    """

    target: str
    emulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An open channel and the project that names are resolved in."""

    channel: Any
    project: str
    address: Address
    open_channel: Callable[[], Any]

    def renewed(self) -> "Connection":
        """The same connection over a new channel."""
        return replace(self, channel=self.open_channel())


def resolve_address(
    *,
    emulator_host: str | None,
    target: str | None,
    environ: Mapping[str, str],
) -> Address:
    """Pick the server: what was given first, then the environment, then the real service.

    Raises:
        ConnectError: What was given is no `host:port`.
    """
    match emulator_host, target, environ.get(EMULATOR_VARIABLE):
        case str() as host, _, _ if host:
            return Address(target=_checked("emulator_host", host), emulated=True)
        case _, str() as host, _ if host:
            return Address(target=_checked("target", host), emulated=False)
        case _, _, str() as host if host:
            return Address(target=_checked(EMULATOR_VARIABLE, host), emulated=True)
    return Address(target=SERVICE_TARGET, emulated=False)


def _checked(source: str, host: str) -> str:
    # gRPC would look for such a host for half a minute
    if ":" not in host or host.startswith(("http://", "https://")):
        raise ConnectError(f"{source}={host!r} is no server: `host:port` is.")
    return host


async def connect(
    *,
    project: str | None,
    emulator_host: str | None,
    target: str | None,
    credentials: Credentials | None = None,
) -> Connection:
    """Open a channel. It connects lazily, so an absent server shows with the first call.

    Args:
        project: Project ID; else from the environment, else that of the credentials.
        emulator_host: `host:port` of an emulator, which is asked without credentials.
        target: `host:port` of the service.
        credentials: Of google-auth, or a whole `grpc.ChannelCredentials`; else the default ones.

    Raises:
        ConnectError: No credentials, no project, or a fork of a process that had connected.
    """
    forks.check()
    address = resolve_address(emulator_host=emulator_host, target=target, environ=os.environ)
    project = project or os.environ.get(PROJECT_VARIABLE)
    if address.emulated:
        return _over(
            partial(grpc.aio.insecure_channel, address.target, options=_OPTIONS),
            project or EMULATOR_PROJECT,
            address,
        )
    channel_credentials, found_project = await asyncio.to_thread(_secured, credentials)
    if not (project := project or found_project):
        raise ConnectError(
            f"no Google Cloud project: pass PubSubBroker(project=...) or set {PROJECT_VARIABLE}.",
        )
    open_channel = partial(
        grpc.aio.secure_channel, address.target, channel_credentials, (*_OPTIONS, *_KEEPALIVE)
    )
    return _over(open_channel, project, address)


def _over(open_channel: Callable[[], Any], project: str, address: Address) -> Connection:
    return Connection(
        channel=open_channel(),
        project=project,
        address=address,
        open_channel=open_channel,
    )


def _secured(credentials: Credentials | None) -> tuple[Any, str | None]:
    if credentials is None:
        found, project = _default_credentials()
        return authorized(found), project
    if isinstance(credentials, grpc.ChannelCredentials):
        return credentials, None
    return authorized(credentials), getattr(credentials, "project_id", None)


def authorized(credentials: Any, *, root_certificates: bytes | None = None) -> Any:  # noqa: ANN401 - neither grpc nor google-auth has types
    """Channel credentials of credentials of google-auth, which refresh their token by themselves.

    Args:
        credentials: `google.auth.credentials.Credentials`.
        root_certificates: Whom to trust, PEM; the usual ones if left out.
    """
    from google.auth.credentials import with_scopes_if_required  # noqa: PLC0415 - not needed, and not loaded, with an emulator
    from google.auth.transport.grpc import AuthMetadataPlugin  # noqa: PLC0415 - as above
    from google.auth.transport.requests import Request  # noqa: PLC0415 - as above

    scoped = with_scopes_if_required(credentials, _SCOPES)  # type: ignore[no-untyped-call] # google-auth has no types there
    plugin = AuthMetadataPlugin(scoped, Request())  # type: ignore[no-untyped-call] # as above
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(root_certificates),
        grpc.metadata_call_credentials(plugin),
    )


def _default_credentials() -> tuple[Any, str | None]:
    import google.auth  # noqa: PLC0415 - as above
    from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415 - as above

    try:
        credentials, project = google.auth.default(scopes=_SCOPES)
    except DefaultCredentialsError as error:
        raise ConnectError(
            "no Google Cloud credentials: run `gcloud auth application-default login`, set "
            f"GOOGLE_APPLICATION_CREDENTIALS, or set {EMULATOR_VARIABLE} for an emulator.",
        ) from error
    return credentials, project
