// The life of an alias through the JavaScript SDK as it is installed; prints what happened as one JSON object.
// READDRESS_URL is a program in development mode, READDRESS_LIMITED_URL one with Amazon Connect's published rates.

import {
  AssociateEmailAddressAliasCommand,
  ConnectClient,
  ConnectServiceException,
  CreateEmailAddressCommand,
  DeleteEmailAddressCommand,
  DescribeEmailAddressCommand,
  DescribeInstanceCommand,
  DisassociateEmailAddressAliasCommand,
  DuplicateResourceException,
  IdempotencyException,
  InvalidParameterException,
  InvalidRequestException,
  ListTagsForResourceCommand,
  ResourceConflictException,
  ResourceNotFoundException,
  SearchEmailAddressesCommand,
  TagResourceCommand,
} from "@aws-sdk/client-connect";

const { READDRESS_URL, READDRESS_LIMITED_URL, INSTANCE_ID: InstanceId, NAME: name } = process.env;
const CALLS_MAX = 100;

function newClient(endpoint) {
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  return new ConnectClient({ endpoint, region: "us-east-1", credentials });
}

async function create(client, text, members = {}) {
  return client.send(new CreateEmailAddressCommand({ InstanceId, EmailAddress: text, ...members }));
}

function pairOf(primary, alias) {
  return { InstanceId, EmailAddressId: primary, AliasConfiguration: { EmailAddressId: alias } };
}

async function tellAlias(client, primary, alias) {
  const pair = pairOf(primary.EmailAddressId, alias.EmailAddressId);
  const associated = await client.send(new AssociateEmailAddressAliasCommand(pair));
  const described = await client.send(
    new DescribeEmailAddressCommand({ InstanceId, EmailAddressId: primary.EmailAddressId }),
  );
  // Every id as an ARN.
  const instanceArn = primary.EmailAddressArn.split("/email-address/")[0];
  const disassociated = await client.send(
    new DisassociateEmailAddressAliasCommand({
      ...pairOf(primary.EmailAddressArn, alias.EmailAddressArn),
      InstanceId: instanceArn,
    }),
  );
  delete described.$metadata;
  const statusOf = (answer) => answer.$metadata.httpStatusCode;
  return { associated: statusOf(associated), described, disassociated: statusOf(disassociated) };
}

async function tellSearch(client) {
  const condition = { FieldName: "displayname", Value: "BÜCHER", ComparisonType: "CONTAINS" };
  const found = await client.send(
    new SearchEmailAddressesCommand({ InstanceId, SearchCriteria: { StringCondition: condition } }),
  );
  return found.EmailAddresses.map((hit) => hit.EmailAddress);
}

async function tellTags(client, resourceArn) {
  await client.send(new TagResourceCommand({ resourceArn, tags: { "größe/x": "a b+c" } }));
  return (await client.send(new ListTagsForResourceCommand({ resourceArn }))).tags;
}

// What a refused call throws: its class, as `instanceof` sees it, and what it says.
async function refusalOf(client, kind, command) {
  try {
    await client.send(command);
  } catch (error) {
    const { name, message, $metadata } = error;
    const isTyped = error instanceof kind && error instanceof ConnectServiceException;
    const hasRequestId = Boolean($metadata.requestId);
    return { name, message, isTyped, hasRequestId, status: $metadata.httpStatusCode, attempts: $metadata.attempts };
  }
  return { name: "nothing was refused" };
}

async function tellRefusals(client, primary, alias) {
  const [one, other] = [primary.EmailAddressId, alias.EmailAddressId];
  const third = (await create(client, `third-${name}@example.com`)).EmailAddressId;
  const ClientToken = `token-${name}`;
  const refusals = {
    notFound: await refusalOf(
      client,
      ResourceNotFoundException,
      new DisassociateEmailAddressAliasCommand(pairOf(one, other)),
    ),
  };
  await client.send(new AssociateEmailAddressAliasCommand({ ...pairOf(one, other), ClientToken }));
  const attempts = {
    conflict: [ResourceConflictException, new AssociateEmailAddressAliasCommand(pairOf(one, third))],
    idempotency: [
      IdempotencyException,
      new AssociateEmailAddressAliasCommand({ ...pairOf(one, third), ClientToken }),
    ],
    invalidRequest: [InvalidRequestException, new AssociateEmailAddressAliasCommand(pairOf(one, one))],
    invalidParameter: [InvalidParameterException, new CreateEmailAddressCommand({ InstanceId, EmailAddress: "x" })],
    duplicate: [
      DuplicateResourceException,
      new CreateEmailAddressCommand({ InstanceId, EmailAddress: `THIRD-${name}@EXAMPLE.com` }),
    ],
  };
  for (const [what, [kind, command]] of Object.entries(attempts)) {
    refusals[what] = await refusalOf(client, kind, command);
  }
  await client.send(new DeleteEmailAddressCommand({ InstanceId, EmailAddressId: other }));
  return refusals;
}

// As fast as they go, until the bucket is empty and a call was retried by the SDK itself.
async function tellRetry() {
  const client = newClient(READDRESS_LIMITED_URL);
  for (let call = 1; call <= CALLS_MAX; call++) {
    const answer = await client.send(new DescribeInstanceCommand({ InstanceId }));
    const { attempts, httpStatusCode } = answer.$metadata;
    if (attempts > 1) {
      return { attempts, status: httpStatusCode, id: answer.Instance.Id };
    }
  }
  return { attempts: 1 };
}

// A clock ten minutes fast is corrected by the Date of the refusal.
async function tellClock() {
  const client = newClient(READDRESS_URL);
  const now = Date.now;
  Date.now = () => now() + 600_000;
  const answer = await client.send(new DescribeInstanceCommand({ InstanceId }));
  return { attempts: answer.$metadata.attempts, status: answer.$metadata.httpStatusCode };
}

const client = newClient(READDRESS_URL);
const primary = await create(client, `primary-${name}@example.com`);
const alias = await create(client, `größe-${name}@example.com`, { DisplayName: "Bücher 日本" });
const told = {
  primary: { id: primary.EmailAddressId, arn: primary.EmailAddressArn },
  aliasId: alias.EmailAddressId,
  alias: await tellAlias(client, primary, alias),
  search: await tellSearch(client),
  tags: await tellTags(client, primary.EmailAddressArn),
  refusals: await tellRefusals(client, primary, alias),
  retry: await tellRetry(),
  clock: await tellClock(),
};
console.log(JSON.stringify(told));
