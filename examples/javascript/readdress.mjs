// Readdress for tests in JavaScript: a process of its own on free ports, and what a test asks of it.
// Copy this file into your tests. READDRESS names the program, if it is not on the PATH.

import { spawn } from "node:child_process";
import { createHash, createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { SignatureV4 } from "@smithy/signature-v4";

const CREDENTIALS = { accessKeyId: "test", secretAccessKey: "test" };
const REGION = "us-east-1";

class Sha256 {
  constructor(secret) {
    this.hash = secret ? createHmac("sha256", secret) : createHash("sha256");
  }

  update(data) {
    this.hash.update(data);
  }

  async digest() {
    return new Uint8Array(this.hash.digest());
  }
}

export class Readdress {
  // Starts the program and waits until it says where it listens.
  static async start() {
    const data = await mkdtemp(join(tmpdir(), "readdress-"));
    const places = ["--data", data, "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0"];
    const child = spawn(process.env.READDRESS ?? "readdress", ["serve", "--dev", ...places], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    process.once("exit", () => child.kill());
    let log = "";
    child.stderr.on("data", (text) => (log += text));
    const said = {};
    await new Promise((resolve, reject) => {
      child.on("error", (error) =>
        reject(new Error(`${error.message}: install the Python package readdress, or name the program in READDRESS`)),
      );
      child.on("exit", () => reject(new Error(`Readdress did not start:\n${log}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const [, name, value] = line.match(/^ +(API|SMTP) +(\S+)$/) ?? line.match(/export (INSTANCE_ID)=(\S+)$/) ?? [];
        if (name) said[name] = value;
        if (said.INSTANCE_ID) resolve();
      });
    });
    return new Readdress(child, data, said);
  }

  constructor(child, data, said) {
    this.child = child;
    this.data = data;
    this.endpoint = said.API;
    [this.smtpHost, this.smtpPort] = said.SMTP.split(":");
    this.instanceId = said.INSTANCE_ID;
  }

  // What `new ConnectClient(…)` takes.
  get clientOptions() {
    return { endpoint: this.endpoint, region: REGION, credentials: CREDENTIALS };
  }

  async stop() {
    const ended = new Promise((resolve) => this.child.once("close", resolve));
    this.child.kill("SIGTERM");
    await ended;
    await rm(this.data, { recursive: true, force: true });
  }

  // A fault for the next calls or mails; see "Faults" in docs/testing.md for its members.
  async fail(fault) {
    await answered(await fetch(`${this.endpoint}/_readdress/faults`, { method: "POST", body: JSON.stringify(fault) }));
  }

  async clearFaults() {
    await answered(await fetch(`${this.endpoint}/_readdress/faults`, { method: "DELETE" }));
  }

  // The messages in an inbox, newest first, as soon as there are `count`; after `waitMs` with what there is.
  async waitFor(emailAddressId, { count = 1, waitMs = 5000 } = {}) {
    const query = { waitMs: String(waitMs), minResults: String(count) };
    return (await this.call("GET", this.inboxPath(emailAddressId), query)).Messages;
  }

  async emptyInbox(emailAddressId) {
    while ((await this.call("DELETE", this.inboxPath(emailAddressId))).More);
  }

  inboxPath(emailAddressId) {
    return `/_readdress/instances/${this.instanceId}/email-addresses/${emailAddressId}/messages`;
  }

  // One of the operations of docs/messages.md, signed as every call is.
  async call(method, path, query = {}) {
    const url = new URL(path, this.endpoint);
    const signer = new SignatureV4({ credentials: CREDENTIALS, region: REGION, service: "connect", sha256: Sha256 });
    const { hostname, host, protocol } = url;
    const signed = await signer.sign({ method, protocol, hostname, path, query, headers: { host } });
    url.search = new URLSearchParams(query);
    return answered(await fetch(url, { method, headers: signed.headers }));
  }

  // A mail by SMTP; rejects with the reply if it is refused.
  async send({ to, sender = "customer@example.org", subject = "", body = "" }) {
    const socket = createConnection(this.smtpPort, this.smtpHost);
    const replies = createInterface({ input: socket })[Symbol.asyncIterator]();
    const say = async (line) => {
      if (line) socket.write(`${line}\r\n`);
      for (;;) {
        const { value, done } = await replies.next();
        if (done) throw new Error("the connection was lost");
        if (/^[45]/.test(value)) throw new Error(value);
        if (value[3] !== "-") return value;
      }
    };
    try {
      const content = `From: ${sender}\r\nTo: ${to}\r\nSubject: ${subject}\r\n\r\n${body}`;
      await say();
      for (const line of ["EHLO client.test", `MAIL FROM:<${sender}>`, `RCPT TO:<${to}>`, "DATA"]) await say(line);
      await say(`${content.replace(/^\./gm, "..")}\r\n.`);
      await say("QUIT");
    } finally {
      socket.destroy();
    }
  }
}

async function answered(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status} ${answer.__type}: ${answer.Message}`);
  return answer;
}
