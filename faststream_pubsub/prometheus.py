"""Metrics for Prometheus, named as those of FastStream's other brokers; needs prometheus-client."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final

from faststream.message import StreamMessage
from faststream.prometheus import ConsumeAttrs, MetricsSettingsProvider
from faststream.prometheus.middleware import PrometheusMiddleware

from faststream_pubsub._faststream import EMPTY
from faststream_pubsub.broker import PubSubBroker
from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.response import PubSubPublishCommand

_SYSTEM = "gcp_pubsub"
_GAUGES: Final = {
    "held_messages": "Messages that are leased: with handlers, or waiting for them.",
    "down_seconds": "How long the subscription has had no living stream.",
}
_COUNTERS: Final = {
    "lost_leases": "Leases that have ended before their message was settled.",
    "failed_acks": "Messages that the service did not let be acknowledged.",
}


class PubSubCollector:
    """Tells, when it is asked, how a broker's subscriptions are doing: `registry.register` it."""

    def __init__(
        self,
        broker: PubSubBroker,
        *,
        app_name: str = EMPTY,
        metrics_prefix: str = "faststream",
    ) -> None:
        """Prepare a collector.

        Args:
            broker: Whose subscriptions to tell of.
            app_name: Label of all metrics; the prefix if it is left out.
            metrics_prefix: First part of all names.
        """
        self._broker = broker
        self._app_name = metrics_prefix if app_name is EMPTY else app_name
        self._prefix = metrics_prefix

    def collect(self) -> Iterator[Any]:
        """Give the metrics of this moment, as `prometheus_client` wants them."""
        # it is optional, but whoever has a registry has it
        core = import_module("prometheus_client.core")
        subscriptions = self._broker.health().subscriptions
        for kind, metrics in (
            (core.GaugeMetricFamily, _GAUGES),
            (core.CounterMetricFamily, _COUNTERS),
        ):
            for name, text in metrics.items():
                full_name = f"{self._prefix}_subscription_{name}"
                family = kind(full_name, text, labels=("app_name", "broker", "subscription"))
                for one in subscriptions:
                    labels = (self._app_name, _SYSTEM, one.subscription)
                    family.add_metric(labels, getattr(one, name))
                yield family


class PubSubPrometheusMiddleware(PrometheusMiddleware[Delivery | Batch, PubSubPublishCommand]):
    """Counts and times what is received and published."""

    def __init__(
        self,
        *,
        registry: Any,  # noqa: ANN401 - a CollectorRegistry; prometheus_client is optional
        app_name: str = EMPTY,
        metrics_prefix: str = "faststream",
        received_messages_size_buckets: Sequence[float] | None = None,
        custom_labels: dict[str, str | Callable[[Any], str]] | None = None,
    ) -> None:
        """Prepare the metrics.

        Args:
            registry: The `prometheus_client.CollectorRegistry` to register with.
            app_name: Label of all metrics; the prefix if it is left out.
            metrics_prefix: First part of all names.
            received_messages_size_buckets: Bounds of the size histogram, bytes.
            custom_labels: More labels: values, or functions of the delivery.
        """
        super().__init__(
            settings_provider_factory=_provider_for,
            registry=registry,
            app_name=app_name,
            metrics_prefix=metrics_prefix,
            received_messages_size_buckets=received_messages_size_buckets,
            custom_labels=custom_labels,
        )


class PubSubMetricsSettingsProvider(MetricsSettingsProvider[Any, PubSubPublishCommand]):
    """What the metrics of single messages say; the handler's label is its subscription's ID."""

    messaging_system = _SYSTEM

    def get_consume_attrs_from_message(self, msg: StreamMessage[Any]) -> ConsumeAttrs:
        """Subscription, bytes and count."""
        return {
            "destination_name": _subscription_id(msg.raw_message),
            "message_size": len(msg.body),
            "messages_count": 1,
        }

    def get_publish_destination_name_from_cmd(self, cmd: PubSubPublishCommand) -> str:
        """The topic's ID."""
        return cmd.destination


class PubSubBatchMetricsSettingsProvider(PubSubMetricsSettingsProvider):
    """What the metrics of batches say."""

    def get_consume_attrs_from_message(self, msg: StreamMessage[Any]) -> ConsumeAttrs:
        """Subscription, bytes and count."""
        return {
            "destination_name": _subscription_id(msg.raw_message[0]),
            "message_size": sum(map(len, msg.body)),
            "messages_count": len(msg.raw_message),
        }


def _provider_for(raw: Delivery | Batch | None) -> PubSubMetricsSettingsProvider:
    if isinstance(raw, tuple):
        return PubSubBatchMetricsSettingsProvider()
    return PubSubMetricsSettingsProvider()


def _subscription_id(delivery: Delivery) -> str:
    return delivery.subscription.rsplit("/", maxsplit=1)[-1]
