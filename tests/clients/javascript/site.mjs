// Chromium over the site: each page in each variant is judged by axe, and on the output is what it found.
import { axe, launch } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
// What other tabs hold is judged with what the first one shows, and no colour is caught on its way to another.
const STYLE = ".md-typeset .tabbed-content > .tabbed-block { display: block } * { transition: none !important }";
// What surrounds each page, and is half of the work.
const FRAME = ".md-header, .md-sidebar, .md-footer";

const browser = await launch(given.chromium);
const wrong = [];
const found = [];

async function open(options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(15_000);
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(given.url) && !/^(data|blob):/.test(url)) wrong.push(`asked ${url}`);
  });
  await context.addInitScript(axe);
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`error ${error.message} in ${page.url()}`));
  return page;
}

async function judge(page, where) {
  await page.addStyleTag({ content: STYLE });
  if (!given.frame) await page.locator(FRAME).evaluateAll((parts) => parts.forEach((part) => part.remove()));
  const violations = await page.evaluate(async (tags) => {
    // Material measures what has been shown a moment later, for the keyboard to reach what scrolls.
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    const judged = await axe.run(document, { runOnly: tags, resultTypes: ["violations"], preload: false });
    return judged.violations.map(({ id, nodes }) => `${id}: ${nodes.length} like ${nodes[0].html.slice(0, 200)}`);
  }, TAGS);
  for (const violation of violations) found.push(`${where}: ${violation}`);
}

// The menu of a narrow page, and what a search finds, as they lie over the page.
async function judgeWhatOpens(page, where) {
  const opener = (name) => page.locator(`label.md-header__button[for=__${name}]`);
  if (await opener("drawer").isVisible()) {
    await opener("drawer").click();
    await judge(page, `menu ${where}`);
    await page.reload();
    await opener("search").click();
  }
  await page.getByRole("textbox", { name: "Search" }).click();
  await page.keyboard.type("alias");
  await page.locator(".md-search-result__item").first().waitFor();
  await judge(page, `search ${where}`);
}

try {
  for (const { width, scheme } of given.variants) {
    const page = await open({ colorScheme: scheme, viewport: { width, height: 800 } });
    for (const path of given.pages) {
      await page.goto(`${given.url}/${path}`);
      await judge(page, `${path} ${width} ${scheme}`);
    }
    if (given.frame) await judgeWhatOpens(page, `${width} ${scheme}`);
    await page.context().close();
  }
  console.log(JSON.stringify({ found, wrong }));
} finally {
  await browser.close();
}
