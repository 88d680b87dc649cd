// The official Node client against the server at PUBSUB_EMULATOR_HOST.
// Prints a line of JSON for every check: {"check": ..., "passed": ..., "error": ...}.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import {PubSub, Encodings, SchemaTypes} from '@google-cloud/pubsub';

const SECONDS = 1000;
const ERRORS = {INVALID_ARGUMENT: 3, NOT_FOUND: 5, ALREADY_EXISTS: 6, FAILED_PRECONDITION: 9};

class World {
  constructor() {
    this.projectId = `node-${randomUUID().slice(0, 8)}`;
    this.pubsub = new PubSub({projectId: this.projectId});
  }
  async create(settings = {}, topicSettings = {}) {
    [this.topic] = await this.pubsub.createTopic({name: 'topic', ...topicSettings});
    [this.subscription] = await this.topic.createSubscription('subscription', settings);
    return this;
  }
  publisher(options) {
    return this.pubsub.topic('topic', options);
  }
  // Receives until `handle` has returned true, then closes the stream.
  receive(handle, subscription = this.subscription, options = {}) {
    const streaming = this.pubsub.subscription(subscription.name, options);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('nothing came in 30 s')), 30 * SECONDS);
      const end = settle => async value => {
        clearTimeout(timer);
        streaming.removeAllListeners('message');
        await streaming.close();
        settle(value);
      };
      const resolved = end(resolve), rejected = end(reject);
      streaming.on('error', rejected);
      streaming.on('message', async message => {
        try {
          if (await handle(message)) await resolved(message);
        } catch (error) {
          await rejected(error);
        }
      });
    });
  }
  collect(count, subscription) {
    const bodies = [];
    return this.receive(message => {
      message.ack();
      bodies.push(message.data.toString());
      return bodies.length >= count;
    }, subscription).then(() => bodies);
  }
}

const fails = (promise, code) => assert.rejects(promise, error => error.code === ERRORS[code]);

const checks = {
  async publish() {
    const world = await new World().create();
    const id = await world.topic.publishMessage({data: Buffer.from('hé'), attributes: {k: 'v'}});
    const message = await world.receive(each => (each.ack(), true));
    assert.equal(message.id, id);
    assert.equal(message.data.toString(), 'hé');
    assert.deepEqual(message.attributes, {k: 'v'});
    assert.ok(Math.abs(message.publishTime.getTime() - Date.now()) < 60 * SECONDS);
  },
  async batching() {
    const world = await new World().create();
    const topic = world.publisher({batching: {maxMessages: 50, maxMilliseconds: 10}});
    const bodies = Array.from({length: 500}, (_, n) => `${n}`);
    const ids = await Promise.all(bodies.map(each => topic.publishMessage({data: Buffer.from(each)})));
    assert.equal(new Set(ids).size, 500);
    assert.deepEqual((await world.collect(500)).sort(), bodies.sort());
  },
  async ordering() {
    const world = await new World().create({enableMessageOrdering: true});
    const topic = world.publisher({messageOrdering: true});
    const sent = Array.from({length: 60}, (_, n) => ({key: `k${n % 3}`, body: `${n}`}));
    await Promise.all(sent.map(each =>
      topic.publishMessage({data: Buffer.from(each.body), orderingKey: each.key})));
    const order = [];
    let nacked = false;
    await world.receive(message => {
      const body = Number(message.data);
      if (body === 30 && !nacked) {
        nacked = true;
        message.nack();
        return false;
      }
      order.push(body);
      message.ack();
      // What was under way when 30 was nacked comes again, after it.
      const again = order.lastIndexOf(57) > order.indexOf(30) && order.includes(30);
      return new Set(order).size === 60 && again;
    });
    for (const key of [0, 1, 2]) {
      const last = [...new Set(order.filter(each => each % 3 === key).reverse())].reverse();
      assert.deepEqual(last, Array.from({length: 20}, (_, n) => 3 * n + key));
    }
  },
  async nack() {
    const world = await new World().create();
    await world.topic.publishMessage({data: Buffer.from('again')});
    let deliveries = 0;
    await world.receive(message => (++deliveries === 1 ? message.nack() : message.ack(), deliveries === 2));
  },
  async lease() {
    const world = await new World().create({ackDeadlineSeconds: 10});
    await world.topic.publishMessage({data: Buffer.from('held')});
    let deliveries = 0;
    await world.receive(async message => {
      deliveries += 1;
      message.modAck(20);
      await new Promise(resolve => setTimeout(resolve, 11 * SECONDS));
      message.ack();
      return true;
    });
    assert.equal(deliveries, 1);
  },
  async exactlyOnce() {
    const world = await new World().create({enableExactlyOnceDelivery: true});
    await world.topic.publishMessage({data: Buffer.from('once')});
    let first;
    await world.receive(async message => {
      first = message;
      assert.equal(await message.modAckWithResponse(30), 'SUCCESS');
      assert.equal(await message.ackWithResponse(), 'SUCCESS');
      return true;
    });
    const {v1} = await import('@google-cloud/pubsub');
    const client = new v1.SubscriberClient(await world.pubsub.getClientConfig());
    const request = {subscription: world.subscription.name, ackIds: [first.ackId]};
    await assert.rejects(client.acknowledge(request), error => {
      const info = error.statusDetails.find(each => each.reason);
      return error.code === 3 && info.reason === 'EXACTLY_ONCE_ACKID_FAILURE' &&
        info.metadata[first.ackId] === 'PERMANENT_FAILURE_INVALID_ACK_ID';
    });
    await client.close();
  },
  async filter() {
    const world = await new World().create({filter: 'attributes.colour = "red" AND NOT attributes:hidden'});
    for (const attributes of [{colour: 'blue'}, {colour: 'red', hidden: ''}, {colour: 'red'}])
      await world.topic.publishMessage({data: Buffer.from(JSON.stringify(attributes)), attributes});
    assert.deepEqual(await world.collect(1), ['{"colour":"red"}']);
    await fails(world.topic.createSubscription('bad', {filter: 'attributes.colour = red'}), 'INVALID_ARGUMENT');
  },
  async deadLetter() {
    const world = new World();
    const [dead] = await world.pubsub.createTopic('dead');
    const [letters] = await dead.createSubscription('dead');
    await world.create({
      deadLetterPolicy: {deadLetterTopic: dead.name, maxDeliveryAttempts: 5},
      retryPolicy: {minimumBackoff: {seconds: 0}, maximumBackoff: {seconds: 0}},
    });
    await world.topic.publishMessage({data: Buffer.from('poison')});
    const attempts = [];
    const receiving = world.receive(message => {
      attempts.push(message.deliveryAttempt);
      message.nack();
      return attempts.length === 5;
    });
    const letter = await world.receive(message => (message.ack(), true), letters);
    await receiving;
    assert.deepEqual(attempts, [1, 2, 3, 4, 5]);
    assert.equal(letter.attributes.CloudPubSubDeadLetterSourceSubscription, 'subscription');
    assert.equal(letter.attributes.CloudPubSubDeadLetterSourceDeliveryCount, '5');
  },
  async schema() {
    const world = new World();
    const definition = JSON.stringify({type: 'record', name: 'R', fields: [{name: 'x', type: 'int'}]});
    const schema = await world.pubsub.createSchema('schema', SchemaTypes.Avro, definition);
    await world.create({}, {schemaSettings: {schema: await schema.getName(), encoding: Encodings.Json}});
    await world.topic.publishMessage({data: Buffer.from('{"x": 1}')});
    await fails(world.topic.publishMessage({data: Buffer.from('{"y": 1}')}), 'INVALID_ARGUMENT');
    const message = await world.receive(each => (each.ack(), true));
    assert.equal(message.attributes.googclient_schemaencoding, 'JSON');
    const listed = [];
    for await (const each of world.pubsub.listSchemas()) listed.push(each.name);
    assert.equal(listed.length, 1);
    await schema.delete();
    await fails(world.topic.publishMessage({data: Buffer.from('{"x": 1}')}), 'FAILED_PRECONDITION');
  },
  async seek() {
    const world = await new World().create({retainAckedMessages: true});
    const before = new Date(Date.now() - 60 * SECONDS);
    await world.topic.publishMessage({data: Buffer.from('again')});
    assert.deepEqual(await world.collect(1), ['again']);
    await world.subscription.seek(before);
    assert.deepEqual(await world.collect(1), ['again']);
  },
  async snapshot() {
    const world = await new World().create();
    const [snapshot] = await world.subscription.createSnapshot('snapshot');
    await world.topic.publishMessage({data: Buffer.from('kept')});
    assert.deepEqual(await world.collect(1), ['kept']);
    await world.subscription.seek('snapshot');
    assert.deepEqual(await world.collect(1), ['kept']);
    const [listed] = await world.pubsub.getSnapshots();
    assert.deepEqual(listed.map(each => each.name), [snapshot.name]);
    await snapshot.delete();
  },
  async iam() {
    const world = await new World().create();
    const [policy] = await world.topic.iam.getPolicy();
    policy.bindings = [{role: 'roles/pubsub.publisher', members: ['user:ada@example.com']}];
    await world.topic.iam.setPolicy(policy);
    const [kept] = await world.topic.iam.getPolicy();
    assert.deepEqual(kept.bindings[0].members, ['user:ada@example.com']);
    const [allowed] = await world.subscription.iam.testPermissions(['pubsub.subscriptions.consume']);
    assert.deepEqual(allowed, {'pubsub.subscriptions.consume': true});
  },
  async resources() {
    const world = await new World().create({labels: {a: 'b'}});
    const [exists] = await world.pubsub.topic('other').exists();
    assert.equal(exists, false);
    await world.subscription.setMetadata({ackDeadlineSeconds: 77, labels: {c: 'd'}});
    const [metadata] = await world.subscription.getMetadata();
    assert.equal(metadata.ackDeadlineSeconds, 77);
    assert.deepEqual(metadata.labels, {c: 'd'});
    await world.topic.setMetadata({messageRetentionDuration: {seconds: 1200}});
    const [topics] = await world.pubsub.getTopics({pageSize: 1});
    assert.deepEqual(topics.map(each => each.name), [world.topic.name]);
    await world.pubsub.detachSubscription('subscription');
    assert.equal(await world.subscription.detached().then(([is]) => is), true);
    await world.topic.delete();
    const [orphan] = await world.subscription.getMetadata();
    assert.equal(orphan.topic, '_deleted-topic_');
  },
  async errors() {
    const world = await new World().create();
    await fails(world.pubsub.createTopic('topic'), 'ALREADY_EXISTS');
    await fails(world.pubsub.createTopic('1'), 'INVALID_ARGUMENT');
    await fails(world.pubsub.topic('none').publishMessage({data: Buffer.from('x')}), 'NOT_FOUND');
    await fails(world.topic.createSubscription('short', {ackDeadlineSeconds: 5}), 'INVALID_ARGUMENT');
    await fails(world.topic.publishMessage({data: Buffer.from('')}), 'INVALID_ARGUMENT');
    const gone = world.pubsub.subscription('none');
    const error = await new Promise(resolve => gone.on('error', resolve).on('message', () => {}));
    assert.equal(error.code, ERRORS.NOT_FOUND);
    await gone.close();
  },
  async flowControl() {
    const world = await new World().create();
    await Promise.all(Array.from({length: 20}, (_, n) =>
      world.topic.publishMessage({data: Buffer.from(`${n}`)})));
    let out = 0, most = 0, done = 0;
    await world.receive(async message => {
      most = Math.max(most, ++out);
      await new Promise(resolve => setTimeout(resolve, 5));
      message.ack();
      out -= 1;
      return ++done === 20;
    }, world.subscription, {flowControl: {maxMessages: 3, allowExcessMessages: false}});
    assert.ok(most <= 3, `${most} at once`);
  },
};

async function run(check) {
  try {
    await checks[check]();
    return {check, passed: true, error: ''};
  } catch (error) {
    return {check, passed: false, error: error.stack ?? String(error)};
  }
}

const wanted = process.argv.slice(2);
await Promise.all((wanted.length ? wanted : Object.keys(checks)).map(async check => {
  console.log(JSON.stringify(await run(check)));
}));
process.exit(0);
