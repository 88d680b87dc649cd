"""Settings from the environment (``NEXUS_...``); every default lives under one home folder."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import SettingsError

Positive = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """What a process runs on.

    Attributes:
        home: Folder of all embedded state.
        pubsub: ``embedded``, or ``google`` for Cloud Pub/Sub. ``PUBSUB_EMULATOR_HOST`` wins.
        project: Google Cloud project of topics and subscriptions.
        topic_prefix: Goes before the name of every topic and subscription.
        ledger: ``sqlite:///path`` or ``postgresql://...``.
        warehouse: ``duckdb:///path`` or ``bigquery://project/dataset?location=EU``.
        objects: ``file:///folder`` or ``gs://bucket/prefix``.
        mail: ``maildir:///folder`` or ``smtp://user:password@host:port``.
        mail_sender: Address that alerts come from.
        mail_recipients: Addresses that alerts go to, separated by commas.
        batch_seconds: How long a job of the local batch service takes at least.
        claim_lease_seconds: Lease of a claim; it is renewed while the work runs, and it is how
            long the work of a killed process waits for the next.
        tries: How often a step is tried before it is given up.
        poll_seconds: Pause between two looks at timers and batch jobs.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="NEXUS_", frozen=True, extra="forbid")

    home: Path = Path(".nexus")
    pubsub: Literal["embedded", "google"] = "embedded"
    project: str = "nexus-local"
    topic_prefix: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9_.~+%-]{0,60})?$")] = ""
    ledger: str = ""
    warehouse: str = ""
    objects: str = ""
    mail: str = ""
    mail_sender: str = "nexus@localhost.localdomain"
    mail_recipients: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = (
        "operators@localhost.localdomain",
    )
    batch_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    claim_lease_seconds: Positive = 10.0
    tries: Annotated[int, Field(ge=1, le=100)] = 3
    poll_seconds: Positive = 0.1
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    @field_validator("home")
    @classmethod
    def _for_duckdb(cls, value: Path) -> Path:
        if "?" in str(value.absolute()):
            raise ValueError("DuckDB can't open files in a folder with a ? in its path: rename it")
        return value

    @field_validator("mail_recipients", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def model_post_init(self, _: object) -> None:
        """Give every part without a setting its place under the home folder."""
        home = self.home.absolute()
        quoted = quote(str(home))
        for name, default in (
            ("home", home),
            ("ledger", f"sqlite:///{home / 'ledger.sqlite'}"),
            ("warehouse", f"duckdb://{quoted}/warehouse.duckdb"),
            ("objects", f"file://{quoted}/objects"),
            ("mail", f"maildir://{quoted}/mail"),
        ):
            if name == "home" or not getattr(self, name):
                object.__setattr__(self, name, default)

    @classmethod
    def load(cls, home: Path | None = None) -> Self:
        """The environment's settings, with ``home`` before its own.

        Raises:
            SettingsError: A value can't be used; the text names the variable, value and range.
        """
        try:
            return cls() if home is None else cls(home=home)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "NEXUS_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name}={first['input']!r}: {first['msg']}") from None
