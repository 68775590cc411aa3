// What every script that drives Chromium needs: the browser, and axe-core as a text that a page runs.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const launch = (executablePath) => chromium.launch({
  executablePath,
  chromiumSandbox: false,
  args: ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
