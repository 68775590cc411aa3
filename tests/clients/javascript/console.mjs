// Chromium at the console: one scene by its name, with what it needs as JSON, and on the output what was seen.
import { connect } from "node:net";
import { join } from "node:path";
import { axe, launch } from "./browser.mjs";

const [scene, json] = process.argv.slice(2);
const given = JSON.parse(json);

const WIDTHS = [390, 820, 1280];
const TABS_MAX = 60;

const browser = await launch(given.chromium);

// What a page may never do, whatever the scene: ask elsewhere, break its own policy, fail in its script, open a dialog.
const wrong = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(15_000);
  context.on("request", (request) => {
    if (!request.url().startsWith(given.url) && !request.url().startsWith("data:")) wrong.push(`asked ${request.url()}`);
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`error ${error.message}`));
  page.on("dialog", (dialog) => { wrong.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(`console ${message.text()}`);
  });
  return page;
}

async function signIn(page, path = "/_console/") {
  await page.goto(given.url + path);
  if (given.secret) {
    await page.getByLabel("Access key").fill(given.key);
    await page.getByLabel("Secret").fill(given.secret);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
  } else {
    await page.getByRole("button", { name: "Go on as the development key" }).click();
  }
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

const words = (page) => page.locator("main").innerText();

// Moves by the keyboard alone to what is called so, and says whether one can see where one is.
async function reach(page, name) {
  for (let n = 0; n < TABS_MAX; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      const label = element.labels?.[0]?.innerText ?? element.innerText ?? "";
      const style = getComputedStyle(element);
      return { name: label.trim(), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
    });
    if (at.name === name) {
      if (!at.seen) wrong.push(`the focus on ${name} can't be seen`);
      return;
    }
  }
  throw new Error(`the keyboard does not come to ${name} in ${page.url()}`);
}

async function press(page, name) {
  await reach(page, name);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
}

async function type(page, name, text) {
  await reach(page, name);
  await page.keyboard.type(text);
}

// A mail by SMTP: one command after the other, each when the last has been answered.
async function send(recipient, content) {
  const socket = connect(given.smtp[1], given.smtp[0]);
  const commands = ["EHLO sender.example", "MAIL FROM:<a@b.example>", `RCPT TO:<${recipient}>`, "DATA", `${content}.`, "QUIT"];
  socket.setEncoding("ascii");
  let answer = "";
  for await (const piece of socket) {
    answer += piece;
    if (!/^\d{3} .*\r\n$/m.test(answer)) continue;
    if (/^[45]/.test(answer)) throw new Error(answer);
    answer = "";
    if (commands.length) socket.write(`${commands.shift()}\r\n`);
  }
}

const scenes = {
  async story_by_mouse() {
    const page = await open();
    await signIn(page, given.home);
    for (const address of [given.primary, given.alias]) {
      await page.getByRole("link", { name: "Addresses" }).first().click();
      await page.getByRole("link", { name: "Publish an address" }).click();
      await page.getByLabel("Address", { exact: true }).fill(address);
      await page.getByRole("button", { name: "Publish" }).click();
      await page.getByRole("heading", { name: address, level: 1 }).waitFor();
    }
    await page.getByLabel("Send this address's mail to another, too").fill(given.primary);
    await page.getByRole("button", { name: "Preview" }).last().click();
    const preview = await words(page);
    await page.getByRole("button", { name: "Associate" }).click();
    await page.getByRole("heading", { name: "Associated" }).waitFor();
    const associated = await words(page);
    await page.getByRole("link", { name: given.primary }).click();
    await page.getByRole("link", { name: "Disassociate…" }).click();
    await page.getByRole("button", { name: "Disassociate" }).click();
    await page.getByRole("heading", { name: "Disassociated" }).waitFor();
    return { preview, associated, disassociated: await words(page) };
  },

  async story_by_keyboard() {
    const page = await open();
    await page.goto(given.url + given.home);
    await press(page, "Go on as the development key");
    for (const address of [given.primary, given.alias]) {
      await press(page, "Publish an address");
      await type(page, "Address", address);
      await press(page, "Publish");
      await press(page, "Addresses");
    }
    await press(page, "Change an alias");
    await type(page, "Alias", given.alias);
    await type(page, "Primary", given.primary);
    await press(page, "Preview");
    const preview = await words(page);
    await press(page, "Associate");
    const associated = await words(page);
    await press(page, given.primary);
    await press(page, "Disassociate…");
    await press(page, "Disassociate");
    return { preview, associated, disassociated: await words(page) };
  },

  async search_as_one_types() {
    const page = await open();
    await signIn(page, `${given.home}/addresses`);
    await page.keyboard.press("/");
    const seen = [];
    for (const text of given.texts) {
      await page.keyboard.press("Control+A");
      await page.keyboard.type(text);
      await page.getByRole("status").filter({ hasText: given.expected[seen.length] }).waitFor();
      seen.push(await page.getByRole("row").locator("th a").allInnerTexts());
    }
    return { seen, path: new URL(page.url()).search };
  },

  async conflict() {
    const page = await open();
    await signIn(page, `${given.home}/addresses/${given.third}`);
    await page.getByLabel("Take the mail of another address, too").fill(given.alias);
    await page.getByRole("button", { name: "Preview" }).first().click();
    const told = await page.getByRole("alert").innerText();
    return { told, buttons: await page.locator("main").getByRole("button").allInnerTexts() };
  },

  // What is not offered is forced with a form of our own, as the session's own page would send it.
  async refused() {
    const page = await open();
    await signIn(page, `${given.home}/addresses/${given.address}`);
    const offered = await page.locator("main").locator("button, a.button").allInnerTexts();
    const token = await page.locator("form.who input[name=form_token]").getAttribute("value");
    const answers = [];
    for (const [path, fields] of given.forced) {
      const form = { ...fields, form_token: token };
      const answer = await page.request.post(given.url + given.home + path, { form, maxRedirects: 0 });
      answers.push([answer.status(), /AccessDeniedException/.test(await answer.text())]);
    }
    return { offered, answers };
  },

  // The page stays as it is; the mail is sent meanwhile.
  async live() {
    const page = await open();
    await signIn(page, given.inbox);
    const before = await words(page);
    await send(given.address, "Subject: it has come by itself\r\n\r\nhello\r\n");
    await page.getByRole("link", { name: "it has come by itself" }).waitFor();
    const news = await page.getByText("New mail has come.").innerText();
    await page.getByRole("link", { name: "it has come by itself" }).click();
    return { before, news, message: await words(page) };
  },

  // Every view of every message is looked at; what ran would have called home, or left a mark.
  async hostile() {
    const page = await open();
    await signIn(page, given.home);
    const frames = [];
    for (const id of given.messages) {
      for (const view of ["text", "html", "headers", "raw", "attachments"]) {
        await page.goto(`${given.url}${given.home}/messages/${id}?show=${view}`);
        await page.waitForTimeout(100);
        for (const frame of page.frames()) {
          if (frame.url() === "about:blank") continue;
          if (await frame.evaluate(() => document.title === "pwned" || "pwned" in globalThis)) wrong.push(`${view} of ${id} ran`);
        }
        if (view === "html" && page.frames().length > 1) frames.push(await page.frames()[1].locator("body").innerText());
      }
    }
    return { frames: frames.map((text) => text.slice(0, 100)) };
  },

  // Every page in both schemes and three widths: judged by axe, measured, and pictured where a folder is given.
  async judge() {
    const found = [];
    for (const colorScheme of ["light", "dark"]) {
      for (const width of WIDTHS) {
        const page = await open({ colorScheme, viewport: { width, height: 800 } });
        await signIn(page, given.home);
        for (const [name, path] of Object.entries(given.pages)) {
          await page.goto(given.url + path);
          const where = `${name} ${width} ${colorScheme}`;
          await page.evaluate(axe);
          const judged = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
          for (const one of judged.violations) found.push(`${where}: ${one.id}: ${one.nodes[0].html.slice(0, 200)}`);
          const room = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          if (room[0] > room[1]) found.push(`${where}: ${room[0]} pixels in ${room[1]}`);
          if (given.folder) await page.screenshot({ path: join(given.folder, `${name}-${width}-${colorScheme}.png`) });
        }
        await page.context().close();
      }
    }
    return { found };
  },
};

try {
  const told = await scenes[scene]();
  console.log(JSON.stringify({ ...told, wrong }));
} finally {
  await browser.close();
}
