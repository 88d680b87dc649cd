"""The server as a process of its own, and unary calls to it with raw protobufs."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import grpc

from embedded_pubsub import protos

TOPIC = "projects/p/topics/topic"
SUBSCRIPTION = "projects/p/subscriptions/subscription"
ROOT = Path(__file__).parents[2]


@contextmanager
def process(*arguments):
    command = [sys.executable, "-m", "embedded_pubsub", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def ready(child):
    return json.loads(child.stdout.readline())["grpc"]


class Raw:
    """Unary calls with raw protobufs."""

    def __init__(self, target, *, patient=True):
        self._patient = patient  # waits for a server that can't be reached
        self.channel = grpc.insecure_channel(target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def __call__(self, method, request, response=protos.Empty, timeout=30):
        return self._call(f"/google.pubsub.v1.{method}", request, response, timeout)

    def iam(self, method, request):
        return self._call(f"/google.iam.v1.IAMPolicy/{method}", request, protos.Policy, 30)

    def _call(self, method, request, response, timeout):
        call = self.channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=timeout, wait_for_ready=self._patient)

    def create(self, **settings):
        self("Publisher/CreateTopic", protos.Topic(name=TOPIC))
        subscription = protos.Subscription(name=SUBSCRIPTION, topic=TOPIC, **settings)
        self("Subscriber/CreateSubscription", subscription, protos.Subscription)

    def publish(self, *bodies):
        messages = [protos.PubsubMessage(data=body.encode()) for body in bodies]
        request = protos.PublishRequest(topic=TOPIC, messages=messages)
        return list(self("Publisher/Publish", request, protos.PublishResponse).message_ids)

    def pull(self, count, subscription=SUBSCRIPTION):
        request = protos.PullRequest(
            subscription=subscription, max_messages=count, return_immediately=True
        )
        return list(self("Subscriber/Pull", request, protos.PullResponse).received_messages)

    def ack(self, received):
        ack_ids = [each.ack_id for each in received]
        request = protos.AcknowledgeRequest(subscription=SUBSCRIPTION, ack_ids=ack_ids)
        self("Subscriber/Acknowledge", request)
