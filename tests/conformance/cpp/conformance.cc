// The official C++ client against the server at PUBSUB_EMULATOR_HOST.
// Prints a line of JSON for every check: {"check": ..., "passed": ..., "error": ...}.

#include "google/cloud/pubsub/publisher.h"
#include "google/cloud/pubsub/schema_admin_client.h"
#include "google/cloud/pubsub/subscriber.h"
#include "google/cloud/pubsub/subscription_admin_client.h"
#include "google/cloud/pubsub/topic_admin_client.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace gc = ::google::cloud;
namespace pubsub = ::google::cloud::pubsub;
using std::chrono::seconds;

namespace {

constexpr seconds kPatience(40);
constexpr char kAvro[] =
    R"({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})";

template <typename T, typename U>
void Expect(T const& got, U const& wanted) {
  if (got == wanted) return;
  std::ostringstream text;
  text << "got " << got << ", wanted " << wanted;
  throw std::runtime_error(text.str());
}

void Check(gc::Status const& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

template <typename T>
T Value(gc::StatusOr<T> answer) {
  Check(answer.status());
  return *std::move(answer);
}

template <typename T>
void Refused(gc::StatusOr<T> const& answer, gc::StatusCode code) {
  Expect(gc::StatusCodeToString(answer.status().code()), gc::StatusCodeToString(code));
}

// A project of its own, and the clients that speak to it.
struct World {
  explicit World(std::string const& project_id)
      : project(project_id),
        topic(project, "topic"),
        subscription(project, "subscription"),
        topics(pubsub::MakeTopicAdminConnection()),
        subscriptions(pubsub::MakeSubscriptionAdminConnection()) {}

  void Create(pubsub::SubscriptionBuilder settings = {}) {
    Value(topics.CreateTopic(pubsub::TopicBuilder(topic)));
    Value(subscriptions.CreateSubscription(topic, subscription, std::move(settings)));
  }

  std::vector<std::string> Publish(std::vector<pubsub::Message> messages,
                                   gc::Options options = {}) {
    pubsub::Publisher publisher(pubsub::MakePublisherConnection(topic, std::move(options)));
    std::vector<gc::future<gc::StatusOr<std::string>>> sent;
    for (auto& message : messages) sent.push_back(publisher.Publish(std::move(message)));
    publisher.Flush();
    std::vector<std::string> ids;
    for (auto& each : sent) ids.push_back(Value(each.get()));
    return ids;
  }

  using Handler = std::function<bool(pubsub::Message const&, pubsub::AckHandler)>;

  // Receives messages, one at a time, until the handler says that it is done.
  void Receive(Handler const& handle, gc::Options options = {},
               pubsub::Subscription const* from = nullptr) {
    auto const source = from == nullptr ? subscription : *from;
    pubsub::Subscriber subscriber(
        pubsub::MakeSubscriberConnection(source, std::move(options)));
    std::promise<void> done;
    std::mutex lock;
    bool is_done = false;
    auto session = subscriber.Subscribe([&](pubsub::Message const& message, pubsub::AckHandler h) {
      std::lock_guard<std::mutex> guard(lock);
      if (is_done) return;
      try {
        is_done = handle(message, std::move(h));
        if (is_done) done.set_value();
      } catch (...) {
        is_done = true;
        done.set_exception(std::current_exception());
      }
    });
    auto finished = done.get_future();
    bool const in_time = finished.wait_for(kPatience) == std::future_status::ready;
    session.cancel();
    auto const status = session.get();
    if (!in_time) throw std::runtime_error("not all messages came; " + status.message());
    finished.get();
  }

  std::vector<std::string> Collect(std::size_t count) {
    std::vector<std::string> bodies;
    Receive([&](pubsub::Message const& message, pubsub::AckHandler h) {
      std::move(h).ack();
      bodies.push_back(message.data());
      return bodies.size() >= count;
    });
    std::sort(bodies.begin(), bodies.end());
    return bodies;
  }

  std::string project;
  pubsub::Topic topic;
  pubsub::Subscription subscription;
  pubsub::TopicAdminClient topics;
  pubsub::SubscriptionAdminClient subscriptions;
};

pubsub::Message Text(std::string body) {
  return pubsub::MessageBuilder().SetData(std::move(body)).Build();
}

void Publish(World& world) {
  world.Create();
  auto const sent = pubsub::MessageBuilder().SetData("h\u00e9").SetAttribute("k", "v").Build();
  auto const id = world.Publish({sent})[0];
  world.Receive([&](pubsub::Message const& message, pubsub::AckHandler h) {
    std::move(h).ack();
    Expect(message.message_id(), id);
    Expect(message.data(), sent.data());
    Expect(message.attributes().at("k"), "v");
    return true;
  });
}

void Batching(World& world) {
  world.Create();
  std::vector<pubsub::Message> messages;
  std::set<std::string> wanted;
  for (int n = 0; n != 500; ++n) {
    messages.push_back(Text(std::to_string(n)));
    wanted.insert(std::to_string(n));
  }
  auto const ids = world.Publish(
      messages, gc::Options{}.set<pubsub::MaxBatchMessagesOption>(50));
  Expect(std::set<std::string>(ids.begin(), ids.end()).size(), 500U);
  auto const bodies = world.Collect(500);
  Expect(std::set<std::string>(bodies.begin(), bodies.end()) == wanted, true);
}

void Ordering(World& world) {
  world.Create(pubsub::SubscriptionBuilder{}.enable_message_ordering(true));
  std::vector<pubsub::Message> messages;
  for (int n = 0; n != 60; ++n) {
    messages.push_back(pubsub::MessageBuilder()
                           .SetData(std::to_string(n))
                           .SetOrderingKey("k" + std::to_string(n % 3))
                           .Build());
  }
  world.Publish(messages, gc::Options{}.set<pubsub::MessageOrderingOption>(true));
  std::map<std::string, std::vector<int>> got;
  bool nacked = false;
  world.Receive([&](pubsub::Message const& message, pubsub::AckHandler h) {
    int const body = std::stoi(message.data());
    if (body == 30 && !nacked) {
      nacked = true;
      std::move(h).nack();
      return false;
    }
    std::move(h).ack();
    got[message.ordering_key()].push_back(body);
    std::size_t distinct = 0;
    for (auto const& each : got) {
      distinct += std::set<int>(each.second.begin(), each.second.end()).size();
    }
    return nacked && distinct == 60 && got["k0"].back() == 57;
  });
  for (auto const& each : got) {
    std::map<int, std::size_t> last;
    for (std::size_t n = 0; n != each.second.size(); ++n) last[each.second[n]] = n;
    for (auto const& seen : last) {
      auto const later = last.find(seen.first + 3);
      Expect(later == last.end() || later->second > seen.second, true);
    }
  }
}

void Nack(World& world) {
  world.Create();
  world.Publish({Text("again")});
  int deliveries = 0;
  world.Receive([&](pubsub::Message const&, pubsub::AckHandler h) {
    if (++deliveries == 1) {
      std::move(h).nack();
      return false;
    }
    std::move(h).ack();
    return true;
  });
}

void Lease(World& world) {
  world.Create(pubsub::SubscriptionBuilder{}.set_ack_deadline(seconds(10)));
  world.Publish({Text("held")});
  std::atomic<int> deliveries(0);
  world.Receive([&](pubsub::Message const&, pubsub::AckHandler h) {
    ++deliveries;
    std::this_thread::sleep_for(seconds(12));
    std::move(h).ack();
    return true;
  });
  Expect(deliveries.load(), 1);
}

void Filter(World& world) {
  world.Create(pubsub::SubscriptionBuilder{}.set_filter(
      R"(attributes.colour = "red" AND NOT attributes:hidden)"));
  auto const coloured = [](std::string const& colour) {
    return pubsub::MessageBuilder().SetData(colour).SetAttribute("colour", colour);
  };
  world.Publish({coloured("blue").Build(), coloured("red").SetAttribute("hidden", "").Build(),
                 coloured("red").Build()});
  world.Receive([&](pubsub::Message const& message, pubsub::AckHandler h) {
    std::move(h).ack();
    Expect(message.attributes().size(), 1U);
    Expect(message.data(), "red");
    return true;
  });
}

void DeadLetter(World& world) {
  pubsub::Topic const dead(world.project, "dead");
  pubsub::Subscription const letters(world.project, "dead");
  Value(world.topics.CreateTopic(pubsub::TopicBuilder(dead)));
  Value(world.subscriptions.CreateSubscription(dead, letters));
  world.Create(pubsub::SubscriptionBuilder{}.set_dead_letter_policy(
      pubsub::SubscriptionBuilder::MakeDeadLetterPolicy(dead, 5)));
  world.Publish({Text("poison")});
  std::vector<int> attempts;
  world.Receive([&](pubsub::Message const&, pubsub::AckHandler h) {
    attempts.push_back(h.delivery_attempt());
    std::move(h).nack();
    return attempts.size() == 5;
  });
  Expect(attempts == std::vector<int>({1, 2, 3, 4, 5}), true);
  world.Receive(
      [&](pubsub::Message const& message, pubsub::AckHandler h) {
        std::move(h).ack();
        Expect(message.attributes().at("CloudPubSubDeadLetterSourceSubscription"), "subscription");
        return true;
      },
      {}, &letters);
}

void Schema(World& world) {
  pubsub::SchemaAdminClient schemas(pubsub::MakeSchemaAdminConnection());
  pubsub::Schema const schema(world.project, "schema");
  Value(schemas.CreateAvroSchema(schema, kAvro));
  Value(schemas.ValidateMessageWithNamedSchema(google::pubsub::v1::JSON, R"({"x": 1})", schema));
  Value(world.topics.CreateTopic(pubsub::TopicBuilder(world.topic)
                                     .set_schema(schema)
                                     .set_encoding(google::pubsub::v1::JSON)));
  world.Publish({Text(R"({"x": 1})")});
  pubsub::Publisher publisher(pubsub::MakePublisherConnection(world.topic));
  auto bad = publisher.Publish(Text(R"({"y": 1})"));
  publisher.Flush();
  Refused(bad.get(), gc::StatusCode::kInvalidArgument);
  Check(schemas.DeleteSchema(schema));
}

void Seek(World& world) {
  world.Create(pubsub::SubscriptionBuilder{}.set_retain_acked_messages(true));
  world.Publish({Text("again")});
  Expect(world.Collect(1)[0], "again");
  Value(world.subscriptions.Seek(world.subscription,
                                 std::chrono::system_clock::now() - seconds(60)));
  Expect(world.Collect(1)[0], "again");
}

void Snapshot(World& world) {
  world.Create();
  pubsub::Snapshot const snapshot(world.project, "snapshot");
  Value(world.subscriptions.CreateSnapshot(world.subscription, snapshot));
  world.Publish({Text("kept")});
  Expect(world.Collect(1)[0], "kept");
  Value(world.subscriptions.Seek(world.subscription, snapshot));
  Expect(world.Collect(1)[0], "kept");
  Check(world.subscriptions.DeleteSnapshot(snapshot));
}

void Resources(World& world) {
  world.Create(pubsub::SubscriptionBuilder{}.add_label("a", "b"));
  auto const updated = Value(world.subscriptions.UpdateSubscription(
      world.subscription,
      pubsub::SubscriptionBuilder{}.set_ack_deadline(seconds(77)).set_labels({{"c", "d"}})));
  Expect(updated.ack_deadline_seconds(), 77);
  Expect(updated.labels().at("c"), "d");
  Expect(updated.labels().size(), 1U);
  for (auto const& each : world.topics.ListTopics(world.project)) {
    Expect(Value(each).name(), world.topic.FullName());
  }
  Value(world.topics.DetachSubscription(world.subscription));
  Expect(Value(world.subscriptions.GetSubscription(world.subscription)).detached(), true);
  Check(world.topics.DeleteTopic(world.topic));
  auto const orphan = Value(world.subscriptions.GetSubscription(world.subscription));
  Expect(orphan.topic(), "_deleted-topic_");
}

void Errors(World& world) {
  world.Create();
  auto const twice = world.topics.CreateTopic(pubsub::TopicBuilder(world.topic));
  Refused(twice, gc::StatusCode::kAlreadyExists);
  pubsub::Topic const bad(world.project, "1");
  auto const refused = world.topics.CreateTopic(pubsub::TopicBuilder(bad));
  Refused(refused, gc::StatusCode::kInvalidArgument);
  pubsub::Topic const none(world.project, "none");
  Refused(world.topics.GetTopic(none), gc::StatusCode::kNotFound);
  pubsub::Publisher nowhere(pubsub::MakePublisherConnection(none));
  auto sent = nowhere.Publish(Text("x"));
  nowhere.Flush();
  Refused(sent.get(), gc::StatusCode::kNotFound);
  pubsub::Subscriber missing(
      pubsub::MakeSubscriberConnection(pubsub::Subscription(world.project, "none")));
  auto session = missing.Subscribe([](pubsub::Message const&, pubsub::AckHandler h) {
    std::move(h).ack();
  });
  Expect(gc::StatusCodeToString(session.get().code()), "NOT_FOUND");
}

void FlowControl(World& world) {
  world.Create();
  std::vector<pubsub::Message> messages;
  for (int n = 0; n != 20; ++n) messages.push_back(Text(std::to_string(n)));
  world.Publish(messages);
  std::set<std::string> got;
  world.Receive(
      [&](pubsub::Message const& message, pubsub::AckHandler h) {
        got.insert(message.data());
        std::move(h).ack();
        return got.size() == 20;
      },
      gc::Options{}.set<pubsub::MaxOutstandingMessagesOption>(3));
}

std::string Quoted(std::string const& text) {
  std::string quoted = "\"";
  for (char const c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c == '\n' ? ' ' : c;
  }
  return quoted + "\"";
}

std::string Outcome(std::string const& name, std::function<void(World&)> const& check) {
  std::string error;
  try {
    World world("cpp-" + std::to_string(std::random_device{}()));
    check(world);
  } catch (std::exception const& failure) {
    error = std::string("failed: ") + failure.what();
  }
  return "{\"check\": " + Quoted(name) + ", \"passed\": " + (error.empty() ? "true" : "false") +
         ", \"error\": " + Quoted(error) + "}\n";
}

}  // namespace

int main() {
  std::map<std::string, std::function<void(World&)>> const checks = {
      {"publish", Publish},       {"batching", Batching},     {"ordering", Ordering},
      {"nack", Nack},             {"lease", Lease},           {"filter", Filter},
      {"deadLetter", DeadLetter}, {"schema", Schema},         {"seek", Seek},
      {"snapshot", Snapshot},     {"resources", Resources},   {"errors", Errors},
      {"flowControl", FlowControl}};
  std::vector<std::future<std::string>> outcomes;
  for (auto const& each : checks) {
    outcomes.push_back(std::async(std::launch::async, Outcome, each.first, each.second));
  }
  for (auto& each : outcomes) std::cout << each.get() << std::flush;
}
