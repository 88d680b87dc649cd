// The official Go client against the server at PUBSUB_EMULATOR_HOST.
// Prints a line of JSON for every check: {"check": ..., "passed": ..., "error": ...}.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/iam"
	"cloud.google.com/go/pubsub"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const patience = 40 * time.Second

type world struct {
	context.Context
	client       *pubsub.Client
	topic        *pubsub.Topic
	subscription *pubsub.Subscription
}

func (w *world) create(config pubsub.SubscriptionConfig) error {
	topic, err := w.client.CreateTopic(w, "topic")
	if err != nil {
		return err
	}
	w.topic, config.Topic = topic, topic
	w.subscription, err = w.client.CreateSubscription(w, "subscription", config)
	return err
}

func (w *world) publish(bodies ...string) error {
	for _, body := range bodies {
		if _, err := w.topic.Publish(w, &pubsub.Message{Data: []byte(body)}).Get(w); err != nil {
			return err
		}
	}
	return nil
}

// receive handles messages, one at a time, until handle says that it is done.
func (w *world) receive(from *pubsub.Subscription, handle func(*pubsub.Message) bool) error {
	inner, cancel := context.WithTimeout(w, patience)
	defer cancel()
	done := false
	var lock sync.Mutex
	err := from.Receive(inner, func(_ context.Context, message *pubsub.Message) {
		lock.Lock()
		defer lock.Unlock()
		if done = done || handle(message); done {
			cancel()
		}
	})
	if err == nil && !done {
		return errors.New("not all messages came")
	}
	return err
}

func (w *world) collect(count int) ([]string, error) {
	var bodies []string
	err := w.receive(w.subscription, func(message *pubsub.Message) bool {
		message.Ack()
		bodies = append(bodies, string(message.Data))
		return len(bodies) >= count
	})
	sort.Strings(bodies)
	return bodies, err
}

func expect(got, wanted interface{}) error {
	if !reflect.DeepEqual(got, wanted) {
		return fmt.Errorf("got %v, wanted %v", got, wanted)
	}
	return nil
}

func code(err error, wanted codes.Code) error {
	return expect(status.Code(err).String(), wanted.String())
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func publish(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	sent := &pubsub.Message{Data: []byte("hé"), Attributes: map[string]string{"k": "v"}}
	id, err := w.topic.Publish(w, sent).Get(w)
	if err != nil {
		return err
	}
	var got *pubsub.Message
	err = w.receive(w.subscription, func(message *pubsub.Message) bool {
		message.Ack()
		got = message
		return true
	})
	return first(err, expect(got.ID, id), expect(string(got.Data), "hé"),
		expect(got.Attributes, sent.Attributes))
}

func batching(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	w.topic.PublishSettings.CountThreshold = 50
	var wanted []string
	var results []*pubsub.PublishResult
	for n := 0; n < 500; n++ {
		wanted = append(wanted, strconv.Itoa(n))
		results = append(results, w.topic.Publish(w, &pubsub.Message{Data: []byte(wanted[n])}))
	}
	for _, result := range results {
		if _, err := result.Get(w); err != nil {
			return err
		}
	}
	sort.Strings(wanted)
	bodies, err := w.collect(500)
	return first(err, expect(bodies, wanted))
}

func ordering(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{EnableMessageOrdering: true}); err != nil {
		return err
	}
	w.topic.EnableMessageOrdering = true
	for n := 0; n < 60; n++ {
		w.topic.Publish(w, &pubsub.Message{
			Data: []byte(strconv.Itoa(n)), OrderingKey: strconv.Itoa(n % 3),
		})
	}
	w.topic.Stop()
	got := map[string][]int{}
	nacked, count := false, 0
	err := w.receive(w.subscription, func(message *pubsub.Message) bool {
		body, _ := strconv.Atoi(string(message.Data))
		if body == 30 && !nacked {
			nacked = true
			message.Nack()
			return false
		}
		message.Ack()
		got[message.OrderingKey] = append(got[message.OrderingKey], body)
		count++
		last := got["0"]
		return nacked && count >= 60 && len(last) > 0 && last[len(last)-1] == 57
	})
	if err != nil {
		return err
	}
	for key, bodies := range got {
		at := map[int]int{}
		for n, body := range bodies {
			at[body] = n
		}
		for body := range at {
			if later, ok := at[body+3]; ok && later < at[body] {
				return fmt.Errorf("key %s: %d came before %d", key, body+3, body)
			}
		}
		if err := expect(len(at), 20); err != nil {
			return err
		}
	}
	return nil
}

func nack(w *world) error {
	if err := first(w.create(pubsub.SubscriptionConfig{}), w.publish("again")); err != nil {
		return err
	}
	deliveries := 0
	return w.receive(w.subscription, func(message *pubsub.Message) bool {
		if deliveries++; deliveries == 1 {
			message.Nack()
			return false
		}
		message.Ack()
		return true
	})
}

func lease(w *world) error {
	config := pubsub.SubscriptionConfig{AckDeadline: 10 * time.Second}
	if err := first(w.create(config), w.publish("held")); err != nil {
		return err
	}
	deliveries := 0
	err := w.receive(w.subscription, func(message *pubsub.Message) bool {
		deliveries++
		time.Sleep(12 * time.Second)
		message.Ack()
		return true
	})
	return first(err, expect(deliveries, 1))
}

func deadLetter(w *world) error {
	dead, err := w.client.CreateTopic(w, "dead")
	if err != nil {
		return err
	}
	letters, err := w.client.CreateSubscription(w, "dead", pubsub.SubscriptionConfig{Topic: dead})
	if err != nil {
		return err
	}
	config := pubsub.SubscriptionConfig{
		DeadLetterPolicy: &pubsub.DeadLetterPolicy{
			DeadLetterTopic: dead.String(), MaxDeliveryAttempts: 5,
		},
	}
	if err := first(w.create(config), w.publish("poison")); err != nil {
		return err
	}
	var attempts []int
	err = w.receive(w.subscription, func(message *pubsub.Message) bool {
		attempts = append(attempts, *message.DeliveryAttempt)
		message.Nack()
		return len(attempts) == 5
	})
	if err != nil {
		return err
	}
	return w.receive(letters, func(message *pubsub.Message) bool {
		message.Ack()
		err = first(expect(attempts, []int{1, 2, 3, 4, 5}),
			expect(message.Attributes["CloudPubSubDeadLetterSourceSubscription"], "subscription"))
		return err == nil
	})
}

func seek(w *world) error {
	config := pubsub.SubscriptionConfig{RetainAckedMessages: true}
	if err := first(w.create(config), w.publish("again")); err != nil {
		return err
	}
	_, err := w.collect(1)
	if err := first(err, w.subscription.SeekToTime(w, time.Now().Add(-time.Minute))); err != nil {
		return err
	}
	bodies, err := w.collect(1)
	return first(err, expect(bodies, []string{"again"}))
}

func snapshot(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	created, err := w.subscription.CreateSnapshot(w, "snapshot")
	if err := first(err, w.publish("kept")); err != nil {
		return err
	}
	if _, err := w.collect(1); err != nil {
		return err
	}
	if err := w.subscription.SeekToSnapshot(w, created.Snapshot); err != nil {
		return err
	}
	bodies, err := w.collect(1)
	return first(err, expect(bodies, []string{"kept"}), created.Delete(w))
}

func policies(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	policy, err := w.topic.IAM().Policy(w)
	if err != nil {
		return err
	}
	policy.Add("user:ada@example.com", iam.Viewer)
	if err := w.topic.IAM().SetPolicy(w, policy); err != nil {
		return err
	}
	kept, err := w.topic.IAM().Policy(w)
	return first(err, expect(kept.Members(iam.Viewer), []string{"user:ada@example.com"}))
}

func resources(w *world) error {
	config := pubsub.SubscriptionConfig{Labels: map[string]string{"a": "b"}}
	if err := w.create(config); err != nil {
		return err
	}
	updated, err := w.subscription.Update(w, pubsub.SubscriptionConfigToUpdate{
		AckDeadline: 77 * time.Second, Labels: map[string]string{"c": "d"},
	})
	if err := first(err, expect(updated.AckDeadline, 77*time.Second),
		expect(updated.Labels, map[string]string{"c": "d"})); err != nil {
		return err
	}
	topics := w.client.Topics(w)
	listed, err := topics.Next()
	if err := first(err, expect(listed.ID(), "topic")); err != nil {
		return err
	}
	if _, err := topics.Next(); err != iterator.Done {
		return fmt.Errorf("more topics than one: %v", err)
	}
	if err := w.topic.Delete(w); err != nil {
		return err
	}
	orphan, err := w.subscription.Config(w)
	return first(err, expect(orphan.Topic.String(), "_deleted-topic_"))
}

func refusals(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	_, twice := w.client.CreateTopic(w, "topic")
	_, short := w.client.CreateTopic(w, "a")
	missing := w.client.Subscription("none").Receive(w, func(context.Context, *pubsub.Message) {})
	_, nowhere := w.client.Topic("none").Publish(w, &pubsub.Message{Data: []byte("x")}).Get(w)
	exists, err := w.client.Topic("none").Exists(w)
	return first(err, expect(exists, false), code(twice, codes.AlreadyExists),
		code(short, codes.InvalidArgument), code(missing, codes.NotFound),
		code(nowhere, codes.NotFound))
}

func flowControl(w *world) error {
	if err := w.create(pubsub.SubscriptionConfig{}); err != nil {
		return err
	}
	for n := 0; n < 20; n++ {
		if err := w.publish(strconv.Itoa(n)); err != nil {
			return err
		}
	}
	w.subscription.ReceiveSettings.MaxOutstandingMessages = 3
	bodies, err := w.collect(20)
	return first(err, expect(len(bodies), 20))
}

func run(name string, check func(*world) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	client, err := pubsub.NewClient(ctx, fmt.Sprintf("go-%s-%d", name, time.Now().UnixNano()))
	if err == nil {
		defer client.Close()
		err = check(&world{Context: ctx, client: client})
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	line, _ := json.Marshal(map[string]interface{}{"check": name, "passed": err == nil, "error": text})
	os.Stdout.Write(append(line, '\n'))
}

func main() {
	checks := map[string]func(*world) error{
		"publish": publish, "batching": batching, "ordering": ordering, "nack": nack, "lease": lease,
		"deadLetter": deadLetter, "seek": seek, "snapshot": snapshot,
		"iam": policies, "resources": resources, "errors": refusals, "flowControl": flowControl,
	}
	var all sync.WaitGroup
	for name, check := range checks {
		all.Add(1)
		go func(name string, check func(*world) error) {
			defer all.Done()
			run(name, check)
		}(name, check)
	}
	all.Wait()
}
