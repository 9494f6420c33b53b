// A browser for scripts that visit a node's pages, as webtest.Visit runs them. In the
// environment: PANNIER_BROWSER, where the packages are; CHROMIUM; RULES, addresses of hosts; OUT,
// a directory for pictures.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const require = createRequire(process.env.PANNIER_BROWSER + "/");
const { chromium } = require("playwright-core");

export const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
export const must = (what, yes) => { if (!yes) throw new Error(what); };
// wrong is what the console of any page has told; a script may take back what it knows.
export const wrong = [];

export const desktop = { viewport: { width: 1280, height: 800 } };
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
if (process.env.RULES) args.push(`--host-resolver-rules=${process.env.RULES}`);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });

// open is a page of a visitor who has been nowhere yet.
export async function open(options = desktop) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") wrong.push(`console: ${m.text()}`); });
  page.on("pageerror", (e) => wrong.push(`script: ${e.message}`));
  page.on("dialog", (d) => d.accept());
  return page;
}

// ask has the test do something, and goes on when it is done.
export async function ask(what) {
  const input = createInterface({ input: process.stdin });
  const answer = new Promise((done) => { input.once("line", done); input.once("close", done); });
  console.log(`do ${what}`);
  must(`the test did not do: ${what}`, await answer === "done");
  input.close();
}

// run does all parts, says "ok" of each, and ends with 1 and why at the first thing that is wrong.
export async function run(parts) {
  try {
    for (const [name, part] of Object.entries(parts)) {
      try {
        await part();
        must(wrong.join("\n"), wrong.length === 0);
      } catch (e) {
        console.log(`FAIL ${name}: ${e.message}\n${wrong.join("\n")}`);
        process.exitCode = 1;
        break;
      }
      console.log(`ok ${name}`);
    }
  } finally {
    await browser.close();
  }
}
