// The official Java client against the server at PUBSUB_EMULATOR_HOST.
// Prints a line of JSON for every check: {"check": ..., "passed": ..., "error": ...}.

import com.google.api.core.ApiFuture;
import com.google.api.core.ApiFutures;
import com.google.api.gax.batching.BatchingSettings;
import com.google.api.gax.batching.FlowControlSettings;
import com.google.api.gax.core.CredentialsProvider;
import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.grpc.GrpcTransportChannel;
import com.google.api.gax.httpjson.InstantiatingHttpJsonChannelProvider;
import com.google.api.gax.rpc.ApiException;
import com.google.api.gax.rpc.FixedTransportChannelProvider;
import com.google.api.gax.rpc.StatusCode;
import com.google.api.gax.rpc.TransportChannelProvider;
import com.google.cloud.pubsub.v1.AckReplyConsumer;
import com.google.cloud.pubsub.v1.AckResponse;
import com.google.cloud.pubsub.v1.MessageReceiver;
import com.google.cloud.pubsub.v1.MessageReceiverWithAckResponse;
import com.google.cloud.pubsub.v1.Publisher;
import com.google.cloud.pubsub.v1.SchemaServiceClient;
import com.google.cloud.pubsub.v1.SchemaServiceSettings;
import com.google.cloud.pubsub.v1.Subscriber;
import com.google.cloud.pubsub.v1.SubscriptionAdminClient;
import com.google.cloud.pubsub.v1.SubscriptionAdminSettings;
import com.google.cloud.pubsub.v1.TopicAdminClient;
import com.google.cloud.pubsub.v1.TopicAdminSettings;
import com.google.gson.JsonObject;
import com.google.iam.v1.Binding;
import com.google.iam.v1.GetIamPolicyRequest;
import com.google.iam.v1.Policy;
import com.google.iam.v1.SetIamPolicyRequest;
import com.google.iam.v1.TestIamPermissionsRequest;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.FieldMask;
import com.google.protobuf.util.Timestamps;
import com.google.pubsub.v1.DeadLetterPolicy;
import com.google.pubsub.v1.DetachSubscriptionRequest;
import com.google.pubsub.v1.Encoding;
import com.google.pubsub.v1.ListTopicsRequest;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.PullRequest;
import com.google.pubsub.v1.ReceivedMessage;
import com.google.pubsub.v1.RetryPolicy;
import com.google.pubsub.v1.Schema;
import com.google.pubsub.v1.SchemaSettings;
import com.google.pubsub.v1.SeekRequest;
import com.google.pubsub.v1.Snapshot;
import com.google.pubsub.v1.Subscription;
import com.google.pubsub.v1.Topic;
import com.google.pubsub.v1.UpdateSubscriptionRequest;
import com.google.pubsub.v1.UpdateTopicRequest;
import com.google.pubsub.v1.ValidateMessageRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;

public final class Conformance {
  private static final int PATIENCE_SECONDS = 40;
  private static final String AVRO =
      "{\"type\": \"record\", \"name\": \"R\", \"fields\": [{\"name\": \"x\", \"type\": \"int\"}]}";
  private static final String AVRO_OPTIONAL =
      "{\"type\": \"record\", \"name\": \"R\", \"fields\": [{\"name\": \"x\", \"type\": \"int\"},"
          + " {\"name\": \"y\", \"type\": \"int\", \"default\": 1}]}";

  interface Check {
    void run(World world) throws Exception;
  }

  interface Action {
    void run() throws Exception;
  }

  /** A project of its own, and the clients that speak to it. */
  static final class World implements AutoCloseable {
    final String project = "java-" + UUID.randomUUID().toString().substring(0, 8);
    final ManagedChannel channel =
        ManagedChannelBuilder.forTarget(System.getenv("PUBSUB_EMULATOR_HOST"))
            .usePlaintext()
            .build();
    final TransportChannelProvider transport =
        FixedTransportChannelProvider.create(GrpcTransportChannel.create(channel));
    final CredentialsProvider credentials = NoCredentialsProvider.create();
    final TopicAdminClient topics;
    final SubscriptionAdminClient subscriptions;
    final SchemaServiceClient schemas;
    final String topic = name("topics", "topic");
    final String subscription = name("subscriptions", "subscription");

    World() throws Exception {
      topics =
          TopicAdminClient.create(
              TopicAdminSettings.newBuilder()
                  .setTransportChannelProvider(transport)
                  .setCredentialsProvider(credentials)
                  .build());
      subscriptions =
          SubscriptionAdminClient.create(
              SubscriptionAdminSettings.newBuilder()
                  .setTransportChannelProvider(transport)
                  .setCredentialsProvider(credentials)
                  .build());
      schemas =
          SchemaServiceClient.create(
              SchemaServiceSettings.newBuilder()
                  .setTransportChannelProvider(transport)
                  .setCredentialsProvider(credentials)
                  .build());
    }

    String name(String collection, String id) {
      return "projects/" + project + "/" + collection + "/" + id;
    }

    void create() {
      create(Subscription.newBuilder());
    }

    void create(Subscription.Builder settings) {
      topics.createTopic(topic);
      subscriptions.createSubscription(settings.setName(subscription).setTopic(topic).build());
    }

    Publisher.Builder publisher() {
      return Publisher.newBuilder(topic)
          .setChannelProvider(transport)
          .setCredentialsProvider(credentials);
    }

    List<String> publish(PubsubMessage... messages) throws Exception {
      return publish(publisher(), messages);
    }

    List<String> publish(Publisher.Builder settings, PubsubMessage... messages) throws Exception {
      Publisher publisher = settings.build();
      try {
        List<ApiFuture<String>> ids = new ArrayList<>();
        for (PubsubMessage message : messages) {
          ids.add(publisher.publish(message));
        }
        return ApiFutures.allAsList(ids).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
      } finally {
        publisher.shutdown();
        publisher.awaitTermination(PATIENCE_SECONDS, TimeUnit.SECONDS);
      }
    }

    /** Receives until `isLast` says so of a message; what it throws ends the check. */
    void receive(String from, FlowControlSettings flow, Receiver isLast) throws Exception {
      CompletableFuture<Void> done = new CompletableFuture<>();
      MessageReceiver receiver =
          (message, reply) -> {
            try {
              if (isLast.handle(message, reply)) {
                done.complete(null);
              }
            } catch (Throwable error) {
              done.completeExceptionally(error);
            }
          };
      Subscriber.Builder settings = subscriber(Subscriber.newBuilder(from, receiver));
      if (flow != null) {
        settings.setFlowControlSettings(flow);
      }
      until(done, settings.build());
    }

    Subscriber.Builder subscriber(Subscriber.Builder settings) {
      return settings.setChannelProvider(transport).setCredentialsProvider(credentials);
    }

    void until(CompletableFuture<Void> done, Subscriber subscriber) throws Exception {
      subscriber.startAsync().awaitRunning();
      try {
        done.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
      } finally {
        subscriber.stopAsync().awaitTerminated(PATIENCE_SECONDS, TimeUnit.SECONDS);
      }
    }

    List<String> collect(int count) throws Exception {
      return collect(subscription, count);
    }

    List<String> collect(String from, int count) throws Exception {
      List<String> bodies = Collections.synchronizedList(new ArrayList<>());
      receive(
          from,
          null,
          (message, reply) -> {
            reply.ack();
            bodies.add(message.getData().toStringUtf8());
            return bodies.size() >= count;
          });
      Collections.sort(bodies);
      return bodies;
    }

    @Override
    public void close() {
      topics.close();
      subscriptions.close();
      schemas.close();
      channel.shutdownNow();
    }
  }

  interface Receiver {
    boolean handle(PubsubMessage message, AckReplyConsumer reply) throws Exception;
  }

  static PubsubMessage message(String body) {
    return PubsubMessage.newBuilder().setData(ByteString.copyFromUtf8(body)).build();
  }

  static void expect(Object found, Object wanted) {
    if (!Objects.equals(found, wanted)) {
      throw new AssertionError("got " + found + ", wanted " + wanted);
    }
  }

  static ApiException refused(StatusCode.Code code, Action action) throws Exception {
    try {
      action.run();
    } catch (ApiException | ExecutionException error) {
      Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
      ApiException refusal = (ApiException) cause;
      expect(refusal.getStatusCode().getCode(), code);
      return refusal;
    }
    throw new AssertionError("not refused, wanted " + code);
  }

  static void publish(World world) throws Exception {
    world.create();
    PubsubMessage sent = message("hé").toBuilder().putAttributes("k", "v").build();
    String id = world.publish(sent).get(0);
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          reply.ack();
          expect(message.getMessageId(), id);
          expect(message.getData(), sent.getData());
          expect(message.getAttributesMap(), sent.getAttributesMap());
          expect(message.getPublishTime().getSeconds() > 1_600_000_000L, true);
          return true;
        });
  }

  static void batching(World world) throws Exception {
    world.create();
    PubsubMessage[] messages = new PubsubMessage[500];
    List<String> wanted = new ArrayList<>();
    for (int n = 0; n < messages.length; n++) {
      messages[n] = message("" + n);
      wanted.add("" + n);
    }
    BatchingSettings batching =
        BatchingSettings.newBuilder()
            .setElementCountThreshold(50L)
            .setRequestByteThreshold(10_000L)
            .setDelayThresholdDuration(java.time.Duration.ofMillis(10))
            .build();
    List<String> ids = world.publish(world.publisher().setBatchingSettings(batching), messages);
    expect(new HashSet<>(ids).size(), 500);
    Collections.sort(wanted);
    expect(world.collect(500), wanted);
  }

  static void compression(World world) throws Exception {
    world.create();
    Publisher.Builder compressed =
        world.publisher().setEnableCompression(true).setCompressionBytesThreshold(10);
    String body = "x".repeat(5_000);
    world.publish(compressed, message(body));
    expect(world.collect(1), List.of(body));
  }

  static void ordering(World world) throws Exception {
    world.create(Subscription.newBuilder().setEnableMessageOrdering(true));
    PubsubMessage[] messages = new PubsubMessage[60];
    for (int n = 0; n < messages.length; n++) {
      messages[n] = message("" + n).toBuilder().setOrderingKey("k" + n % 3).build();
    }
    world.publish(world.publisher().setEnableMessageOrdering(true), messages);
    Map<String, List<Integer>> got = new HashMap<>();
    AtomicInteger nacks = new AtomicInteger();
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          int body = Integer.parseInt(message.getData().toStringUtf8());
          if (body == 30 && nacks.getAndIncrement() == 0) {
            reply.nack();
            return false;
          }
          reply.ack();
          synchronized (got) {
            got.computeIfAbsent(message.getOrderingKey(), key -> new ArrayList<>()).add(body);
            boolean again = nacks.get() > 1 && got.get("k0").contains(57);
            return again && got.values().stream().mapToInt(l -> new HashSet<>(l).size()).sum() == 60;
          }
        });
    for (List<Integer> bodies : got.values()) {
      for (int body : bodies) {
        int later = bodies.lastIndexOf(body + 3);
        expect(later < 0 || later > bodies.lastIndexOf(body), true);
      }
    }
  }

  static void nack(World world) throws Exception {
    world.create();
    world.publish(message("again"));
    AtomicInteger deliveries = new AtomicInteger();
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          if (deliveries.incrementAndGet() == 1) {
            reply.nack();
            return false;
          }
          reply.ack();
          return true;
        });
  }

  static void lease(World world) throws Exception {
    world.create(Subscription.newBuilder().setAckDeadlineSeconds(10));
    world.publish(message("held"));
    AtomicInteger deliveries = new AtomicInteger();
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          deliveries.incrementAndGet();
          Thread.sleep(12_000);
          reply.ack();
          return true;
        });
    expect(deliveries.get(), 1);
  }

  static void exactlyOnce(World world) throws Exception {
    world.create(Subscription.newBuilder().setEnableExactlyOnceDelivery(true));
    world.publish(message("nacked"));
    CompletableFuture<Void> done = new CompletableFuture<>();
    AtomicInteger deliveries = new AtomicInteger();
    MessageReceiverWithAckResponse receiver =
        (message, reply) -> {
          boolean first = deliveries.incrementAndGet() == 1;
          ApiFuture<AckResponse> response = first ? reply.nack() : reply.ack();
          response.addListener(
              () -> {
                try {
                  expect(response.get(), AckResponse.SUCCESSFUL);
                  if (!first) {
                    done.complete(null);
                  }
                } catch (Throwable error) {
                  done.completeExceptionally(error);
                }
              },
              Runnable::run);
        };
    world.until(
        done, world.subscriber(Subscriber.newBuilder(world.subscription, receiver)).build());
    expect(deliveries.get(), 2);
    world.publish(message("pulled"));
    ReceivedMessage pulled = pull(world);
    world.subscriptions.acknowledge(world.subscription, List.of(pulled.getAckId()));
    ApiException stale =
        refused(
            StatusCode.Code.INVALID_ARGUMENT,
            () -> world.subscriptions.acknowledge(world.subscription, List.of(pulled.getAckId())));
    expect(stale.getReason(), "EXACTLY_ONCE_ACKID_FAILURE");
    expect(stale.getMetadata().get(pulled.getAckId()), "PERMANENT_FAILURE_INVALID_ACK_ID");
  }

  static ReceivedMessage pull(World world) {
    PullRequest request =
        PullRequest.newBuilder().setSubscription(world.subscription).setMaxMessages(1).build();
    return world.subscriptions.pullCallable().call(request).getReceivedMessages(0);
  }

  static void filter(World world) throws Exception {
    world.create(
        Subscription.newBuilder().setFilter("attributes.colour = \"red\" AND NOT attributes:hidden"));
    PubsubMessage red = message("red").toBuilder().putAttributes("colour", "red").build();
    world.publish(
        message("blue").toBuilder().putAttributes("colour", "blue").build(),
        red.toBuilder().putAttributes("hidden", "").build(),
        red);
    AtomicInteger deliveries = new AtomicInteger();
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          reply.ack();
          deliveries.incrementAndGet();
          expect(message.getAttributesMap(), red.getAttributesMap());
          return true;
        });
    expect(deliveries.get(), 1);
  }

  static void deadLetter(World world) throws Exception {
    String dead = world.name("topics", "dead");
    String letters = world.name("subscriptions", "dead");
    world.topics.createTopic(dead);
    world.subscriptions.createSubscription(
        Subscription.newBuilder().setName(letters).setTopic(dead).build());
    world.create(
        Subscription.newBuilder()
            .setRetryPolicy(RetryPolicy.newBuilder().setMinimumBackoff(Duration.newBuilder()))
            .setDeadLetterPolicy(
                DeadLetterPolicy.newBuilder().setDeadLetterTopic(dead).setMaxDeliveryAttempts(5)));
    world.publish(message("poison"));
    List<Integer> attempts = Collections.synchronizedList(new ArrayList<>());
    world.receive(
        world.subscription,
        null,
        (message, reply) -> {
          attempts.add(Subscriber.getDeliveryAttempt(message));
          reply.nack();
          return attempts.size() == 5;
        });
    expect(attempts, List.of(1, 2, 3, 4, 5));
    world.receive(
        letters,
        null,
        (message, reply) -> {
          reply.ack();
          String source =
              message.getAttributesOrThrow("CloudPubSubDeadLetterSourceSubscription");
          expect(source, "subscription");
          return true;
        });
  }

  static void schema(World world) throws Exception {
    Schema avro = Schema.newBuilder().setType(Schema.Type.AVRO).setDefinition(AVRO).build();
    String project = "projects/" + world.project;
    Schema made = world.schemas.createSchema(project, avro, "schema");
    Schema.Builder wider =
        avro.toBuilder().setName(made.getName()).setDefinition(AVRO_OPTIONAL);
    Schema second = world.schemas.commitSchema(made.getName(), wider.build());
    List<String> revisions = new ArrayList<>();
    for (Schema each : world.schemas.listSchemaRevisions(made.getName()).iterateAll()) {
      revisions.add(each.getRevisionId());
    }
    expect(revisions, List.of(second.getRevisionId(), made.getRevisionId()));
    world.schemas.validateMessage(
        ValidateMessageRequest.newBuilder()
            .setParent(project)
            .setName(made.getName())
            .setEncoding(Encoding.JSON)
            .setMessage(ByteString.copyFromUtf8("{\"x\": 1, \"y\": 2}"))
            .build());
    SchemaSettings settings =
        SchemaSettings.newBuilder().setSchema(made.getName()).setEncoding(Encoding.JSON).build();
    world.topics.createTopic(
        Topic.newBuilder().setName(world.topic).setSchemaSettings(settings).build());
    world.publish(message("{\"x\": 1}"));
    refused(StatusCode.Code.INVALID_ARGUMENT, () -> world.publish(message("{\"z\": 1}")));
    world.schemas.deleteSchema(made.getName());
    expect(
        world.topics.getTopic(world.topic).getSchemaSettings().getSchema(), "_deleted-schema_");
  }

  static void seek(World world) throws Exception {
    world.create(Subscription.newBuilder().setRetainAckedMessages(true));
    world.publish(message("again"));
    expect(world.collect(1), List.of("again"));
    world.subscriptions.seekCallable().call(
        SeekRequest.newBuilder()
            .setSubscription(world.subscription)
            .setTime(Timestamps.fromMillis(System.currentTimeMillis() - 60_000))
            .build());
    expect(world.collect(1), List.of("again"));
  }

  static void snapshot(World world) throws Exception {
    world.create();
    Snapshot made =
        world.subscriptions.createSnapshot(
            world.name("snapshots", "snapshot"), world.subscription);
    expect(made.getTopic(), world.topic);
    world.publish(message("kept"));
    expect(world.collect(1), List.of("kept"));
    world.subscriptions.seekCallable().call(
        SeekRequest.newBuilder()
            .setSubscription(world.subscription)
            .setSnapshot(made.getName())
            .build());
    expect(world.collect(1), List.of("kept"));
    world.subscriptions.deleteSnapshot(made.getName());
  }

  static void iam(World world) {
    world.create();
    Binding viewers =
        Binding.newBuilder().setRole("roles/viewer").addMembers("user:ada@example.com").build();
    Policy policy = Policy.newBuilder().addBindings(viewers).build();
    world.topics.setIamPolicy(
        SetIamPolicyRequest.newBuilder().setResource(world.topic).setPolicy(policy).build());
    Policy kept =
        world.topics.getIamPolicy(
            GetIamPolicyRequest.newBuilder().setResource(world.topic).build());
    expect(kept.getBindingsList(), List.of(viewers));
    List<String> asked = List.of("pubsub.subscriptions.consume");
    TestIamPermissionsRequest request =
        TestIamPermissionsRequest.newBuilder()
            .setResource(world.subscription)
            .addAllPermissions(asked)
            .build();
    expect(
        new ArrayList<>(world.subscriptions.testIamPermissions(request).getPermissionsList()),
        asked);
  }

  static void resources(World world) {
    world.create(Subscription.newBuilder().putLabels("a", "b"));
    Subscription wanted =
        Subscription.newBuilder()
            .setName(world.subscription)
            .setAckDeadlineSeconds(77)
            .putLabels("c", "d")
            .build();
    Subscription updated =
        world.subscriptions.updateSubscription(
            UpdateSubscriptionRequest.newBuilder()
                .setSubscription(wanted)
                .setUpdateMask(
                    FieldMask.newBuilder().addPaths("ack_deadline_seconds").addPaths("labels"))
                .build());
    expect(updated.getAckDeadlineSeconds(), 77);
    expect(updated.getLabelsMap(), Map.of("c", "d"));
    Duration kept = Duration.newBuilder().setSeconds(1200).build();
    world.topics.updateTopic(
        UpdateTopicRequest.newBuilder()
            .setTopic(
                Topic.newBuilder().setName(world.topic).setMessageRetentionDuration(kept))
            .setUpdateMask(FieldMask.newBuilder().addPaths("message_retention_duration"))
            .build());
    world.topics.createTopic(world.name("topics", "another"));
    List<String> listed = new ArrayList<>();
    ListTopicsRequest request =
        ListTopicsRequest.newBuilder()
            .setProject("projects/" + world.project)
            .setPageSize(1)
            .build();
    for (Topic each : world.topics.listTopics(request).iterateAll()) {
      listed.add(each.getName());
    }
    expect(listed, List.of(world.name("topics", "another"), world.topic));
    world.topics.detachSubscription(
        DetachSubscriptionRequest.newBuilder().setSubscription(world.subscription).build());
    expect(world.subscriptions.getSubscription(world.subscription).getDetached(), true);
    world.topics.deleteTopic(world.topic);
    String orphaned = world.subscriptions.getSubscription(world.subscription).getTopic();
    expect(orphaned, "_deleted-topic_");
  }

  static void errors(World world) throws Exception {
    world.create();
    ApiException twice =
        refused(
            StatusCode.Code.ALREADY_EXISTS, () -> world.topics.createTopic(world.topic));
    expect(twice.getErrorDetails().getResourceInfo().getResourceName(), world.topic);
    ApiException bad =
        refused(
            StatusCode.Code.INVALID_ARGUMENT,
            () -> world.topics.createTopic(world.name("topics", "1")));
    expect(bad.getErrorDetails().getBadRequest().getFieldViolations(0).getField(), "name");
    refused(
        StatusCode.Code.NOT_FOUND, () -> world.topics.getTopic(world.name("topics", "none")));
    refused(StatusCode.Code.INVALID_ARGUMENT, () -> world.publish(message("")));
    Publisher.Builder nowhere =
        Publisher.newBuilder(world.name("topics", "none"))
            .setChannelProvider(world.transport)
            .setCredentialsProvider(world.credentials);
    refused(StatusCode.Code.NOT_FOUND, () -> world.publish(nowhere, message("x")));
    String none = world.name("subscriptions", "none");
    MessageReceiver receiver = (message, reply) -> reply.ack();
    Subscriber missing = world.subscriber(Subscriber.newBuilder(none, receiver)).build();
    try {
      missing.startAsync().awaitTerminated(PATIENCE_SECONDS, TimeUnit.SECONDS);
      throw new AssertionError("the subscriber did not fail");
    } catch (IllegalStateException failed) {
      ApiException cause = (ApiException) missing.failureCause();
      expect(cause.getStatusCode().getCode(), StatusCode.Code.NOT_FOUND);
    }
  }

  static void flowControl(World world) throws Exception {
    world.create();
    PubsubMessage[] messages = new PubsubMessage[20];
    for (int n = 0; n < messages.length; n++) {
      messages[n] = message("" + n);
    }
    world.publish(messages);
    AtomicInteger out = new AtomicInteger();
    AtomicInteger most = new AtomicInteger();
    CountDownLatch left = new CountDownLatch(messages.length);
    world.receive(
        world.subscription,
        FlowControlSettings.newBuilder().setMaxOutstandingElementCount(3L).build(),
        (message, reply) -> {
          most.accumulateAndGet(out.incrementAndGet(), Math::max);
          Thread.sleep(5);
          out.decrementAndGet();
          reply.ack();
          left.countDown();
          return left.getCount() == 0;
        });
    expect(most.get() <= 3, true);
  }

  /** What the clients can do over HTTP and JSON, which is everything but streams. */
  static void rest(World world) throws Exception {
    TransportChannelProvider http =
        InstantiatingHttpJsonChannelProvider.newBuilder()
            .setEndpoint("http://" + System.getenv("PUBSUB_REST_HOST"))
            .build();
    TopicAdminSettings.Builder topics = TopicAdminSettings.newHttpJsonBuilder();
    topics.setTransportChannelProvider(http).setCredentialsProvider(world.credentials);
    SubscriptionAdminSettings.Builder subscriptions =
        SubscriptionAdminSettings.newHttpJsonBuilder();
    subscriptions.setTransportChannelProvider(http).setCredentialsProvider(world.credentials);
    try (TopicAdminClient publisher = TopicAdminClient.create(topics.build());
        SubscriptionAdminClient subscriber =
            SubscriptionAdminClient.create(subscriptions.build())) {
      publisher.createTopic(world.topic);
      Subscription wanted =
          Subscription.newBuilder()
              .setName(world.subscription)
              .setTopic(world.topic)
              .setRetryPolicy(
                  RetryPolicy.newBuilder().setMinimumBackoff(Timestamps.between(
                      Timestamps.fromMillis(0), Timestamps.fromMillis(1500))))
              .build();
      Subscription made = subscriber.createSubscription(wanted);
      expect(made.getRetryPolicy().getMinimumBackoff().getNanos(), 500_000_000);
      PubsubMessage sent = message("hé").toBuilder().putAttributes("k", "v").build();
      String id = publisher.publish(world.topic, List.of(sent)).getMessageIds(0);
      PullRequest request =
          PullRequest.newBuilder().setSubscription(world.subscription).setMaxMessages(1).build();
      ReceivedMessage received =
          subscriber.pullCallable().call(request).getReceivedMessages(0);
      expect(received.getMessage().getMessageId(), id);
      expect(received.getMessage().getData(), sent.getData());
      subscriber.acknowledge(world.subscription, List.of(received.getAckId()));
      Subscription updated =
          subscriber.updateSubscription(
              UpdateSubscriptionRequest.newBuilder()
                  .setSubscription(made.toBuilder().setAckDeadlineSeconds(77))
                  .setUpdateMask(FieldMask.newBuilder().addPaths("ack_deadline_seconds"))
                  .build());
      expect(updated.getAckDeadlineSeconds(), 77);
      for (Topic each : publisher.listTopics("projects/" + world.project).iterateAll()) {
        expect(each.getName(), world.topic);
      }
      // This transport has one word for each HTTP status, and 409 is ABORTED to it.
      refused(StatusCode.Code.ABORTED, () -> publisher.createTopic(world.topic));
      refused(
          StatusCode.Code.NOT_FOUND, () -> publisher.getTopic(world.name("topics", "none")));
    }
  }

  static Map<String, Check> checks() {
    Map<String, Check> checks = new LinkedHashMap<>();
    checks.put("publish", Conformance::publish);
    checks.put("batching", Conformance::batching);
    checks.put("compression", Conformance::compression);
    checks.put("ordering", Conformance::ordering);
    checks.put("nack", Conformance::nack);
    checks.put("lease", Conformance::lease);
    checks.put("exactlyOnce", Conformance::exactlyOnce);
    checks.put("filter", Conformance::filter);
    checks.put("deadLetter", Conformance::deadLetter);
    checks.put("schema", Conformance::schema);
    checks.put("seek", Conformance::seek);
    checks.put("snapshot", Conformance::snapshot);
    checks.put("iam", Conformance::iam);
    checks.put("resources", Conformance::resources);
    checks.put("errors", Conformance::errors);
    checks.put("flowControl", Conformance::flowControl);
    checks.put("rest", Conformance::rest);
    return checks;
  }

  static void run(String name, Check check) {
    String error = "";
    try (World world = new World()) {
      check.run(world);
    } catch (Throwable failure) {
      error = failure.toString();
    }
    JsonObject line = new JsonObject();
    line.addProperty("check", name);
    line.addProperty("passed", error.isEmpty());
    line.addProperty("error", error);
    System.out.println(line);
  }

  public static void main(String[] wanted) throws Exception {
    Predicate<String> isWanted = name -> wanted.length == 0 || List.of(wanted).contains(name);
    List<Thread> running = new ArrayList<>();
    checks()
        .forEach(
            (name, check) -> {
              if (isWanted.test(name)) {
                Thread thread = new Thread(() -> run(name, check));
                thread.start();
                running.add(thread);
              }
            });
    for (Thread thread : running) {
      thread.join();
    }
    System.exit(0);
  }
}
