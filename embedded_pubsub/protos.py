"""The wire format: raw protobuf classes of google.pubsub.v1.

`google.pubsub_v1.types` holds proto-plus wrappers, whose attribute access costs tens of
microseconds a message. Each wrapper knows its raw class, which is what this package speaks.
"""

from typing import TypeAlias

from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf.empty_pb2 import Empty as _Empty
from google.protobuf.message import Message
from google.pubsub_v1 import types

Proto: TypeAlias = Message

AcknowledgeRequest = types.AcknowledgeRequest.pb()
Compression = types.Compression.pb()
CommitSchemaRequest = types.CommitSchemaRequest.pb()
CreateSchemaRequest = types.CreateSchemaRequest.pb()
CreateSnapshotRequest = types.CreateSnapshotRequest.pb()
DeleteSchemaRequest = types.DeleteSchemaRequest.pb()
DeleteSchemaRevisionRequest = types.DeleteSchemaRevisionRequest.pb()
DeleteSnapshotRequest = types.DeleteSnapshotRequest.pb()
DeleteSubscriptionRequest = types.DeleteSubscriptionRequest.pb()
DeleteTopicRequest = types.DeleteTopicRequest.pb()
DetachSubscriptionRequest = types.DetachSubscriptionRequest.pb()
DetachSubscriptionResponse = types.DetachSubscriptionResponse.pb()
GetSchemaRequest = types.GetSchemaRequest.pb()
GetSnapshotRequest = types.GetSnapshotRequest.pb()
GetSubscriptionRequest = types.GetSubscriptionRequest.pb()
GetTopicRequest = types.GetTopicRequest.pb()
ListSchemaRevisionsRequest = types.ListSchemaRevisionsRequest.pb()
ListSchemaRevisionsResponse = types.ListSchemaRevisionsResponse.pb()
ListSchemasRequest = types.ListSchemasRequest.pb()
ListSchemasResponse = types.ListSchemasResponse.pb()
ListSnapshotsRequest = types.ListSnapshotsRequest.pb()
ListSnapshotsResponse = types.ListSnapshotsResponse.pb()
ListSubscriptionsRequest = types.ListSubscriptionsRequest.pb()
ListSubscriptionsResponse = types.ListSubscriptionsResponse.pb()
ListTopicSnapshotsRequest = types.ListTopicSnapshotsRequest.pb()
ListTopicSnapshotsResponse = types.ListTopicSnapshotsResponse.pb()
ListTopicSubscriptionsRequest = types.ListTopicSubscriptionsRequest.pb()
ListTopicSubscriptionsResponse = types.ListTopicSubscriptionsResponse.pb()
ListTopicsRequest = types.ListTopicsRequest.pb()
ListTopicsResponse = types.ListTopicsResponse.pb()
MessageTransform = types.MessageTransform.pb()
ModifyAckDeadlineRequest = types.ModifyAckDeadlineRequest.pb()
ModifyPushConfigRequest = types.ModifyPushConfigRequest.pb()
PublishRequest = types.PublishRequest.pb()
PublishResponse = types.PublishResponse.pb()
PubsubMessage = types.PubsubMessage.pb()
PullRequest = types.PullRequest.pb()
PullResponse = types.PullResponse.pb()
ReceivedMessage = types.ReceivedMessage.pb()
RollbackSchemaRequest = types.RollbackSchemaRequest.pb()
Schema = types.Schema.pb()
SeekRequest = types.SeekRequest.pb()
SeekResponse = types.SeekResponse.pb()
Snapshot = types.Snapshot.pb()
StreamingPullRequest = types.StreamingPullRequest.pb()
StreamingPullResponse = types.StreamingPullResponse.pb()
Subscription = types.Subscription.pb()
Topic = types.Topic.pb()
UpdateSnapshotRequest = types.UpdateSnapshotRequest.pb()
UpdateSubscriptionRequest = types.UpdateSubscriptionRequest.pb()
UpdateTopicRequest = types.UpdateTopicRequest.pb()
ValidateMessageRequest = types.ValidateMessageRequest.pb()
ValidateMessageResponse = types.ValidateMessageResponse.pb()
ValidateSchemaRequest = types.ValidateSchemaRequest.pb()
ValidateSchemaResponse = types.ValidateSchemaResponse.pb()
BINARY = int(types.Encoding.BINARY)
JSON = int(types.Encoding.JSON)
AVRO = int(types.Schema.Type.AVRO)
PROTOCOL_BUFFER = int(types.Schema.Type.PROTOCOL_BUFFER)
FULL = int(types.SchemaView.FULL)

Empty = _Empty
GetIamPolicyRequest = iam_policy_pb2.GetIamPolicyRequest
Policy = policy_pb2.Policy
SetIamPolicyRequest = iam_policy_pb2.SetIamPolicyRequest
TestIamPermissionsRequest = iam_policy_pb2.TestIamPermissionsRequest
TestIamPermissionsResponse = iam_policy_pb2.TestIamPermissionsResponse
