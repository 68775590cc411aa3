// What the program promises, seen from both ends: calls of the API, and mail that arrives or does not.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, test } from "node:test";

import { ConnectClient } from "@aws-sdk/client-connect";

import { Readdress } from "./readdress.mjs";
import { SupportAddresses } from "./support-addresses.mjs";

let readdress, connect, addresses;

before(async () => {
  readdress = await Readdress.start();
  connect = new ConnectClient(readdress.clientOptions);
  addresses = new SupportAddresses(connect, readdress.instanceId);
});

after(async () => {
  connect?.destroy();
  await readdress?.stop();
});

afterEach(() => readdress.clearFaults());

// An address that no other test has.
async function publish(name) {
  const address = `${name}@${randomUUID()}.test`;
  return { address, id: await addresses.publish(address) };
}

test("a published address gets mail", async () => {
  const support = await publish("support");
  await readdress.send({ to: support.address, subject: "My order" });
  const [message] = await readdress.waitFor(support.id);
  assert.equal(message.Subject, "My order");
  assert.deepEqual(message.Reasons, [{ Reason: "DIRECT" }]);
});

test("merged addresses share what comes, and split ones do not", async () => {
  const support = await publish("support");
  const help = await publish("help");
  await addresses.merge(help.id, support.id);
  const waiting = readdress.waitFor(support.id);
  await readdress.send({ to: help.address });
  assert.deepEqual((await waiting)[0].Reasons, [{ Reason: "ALIAS", AliasId: help.id }]);

  await readdress.emptyInbox(support.id);
  await addresses.split(help.id, support.id);
  await readdress.send({ to: help.address });
  assert.equal((await readdress.waitFor(help.id, { count: 2 })).length, 2);
  assert.deepEqual(await readdress.waitFor(support.id, { waitMs: 0 }), []);
});

test("mail for an address that nobody published is refused", async () => {
  await publish("support");
  await assert.rejects(readdress.send({ to: "nobody@elsewhere.test" }), /^Error: 550 5\.7\.1/);
});

test("a service that stumbles is asked again by the SDK", async () => {
  const support = await publish("support");
  const help = await publish("help");
  await readdress.fail({ Operation: "AssociateEmailAddressAlias", Error: "ThrottlingException", Times: 1 });
  await addresses.merge(help.id, support.id);
  await readdress.send({ to: help.address });
  assert.equal((await readdress.waitFor(support.id)).length, 1);
});

test("mail that is put off may be sent again", async () => {
  const support = await publish("support");
  await readdress.fail({ Verb: "DATA", Reply: 451, Times: 1 });
  await assert.rejects(readdress.send({ to: support.address }), /^Error: 451/);
  await readdress.send({ to: support.address });
  assert.equal((await readdress.waitFor(support.id)).length, 1);
});
