// What an operator does on the pages of two hosts by spec/firststeps.md. In the environment,
// besides what browser.mjs takes: SAY, what the document calls things on the page, what the task
// says, and the tokens of both hosts.
import { ask, must, open, run, wrong } from "../../../../engine/web/webtest/browser.mjs";

const { words: [logIn, done, failed, why, retry, ...more], task: [complaint], tokens } = JSON.parse(process.env.SAY);
must(`nobody looks for ${more}`, more.length === 0);
const hosts = ["hosta", "hostb"];
const pages = [];
const row = (page, name) => page.locator("#rows tr", { has: page.getByRole("link", { name }) });

await run({
  "they log in": async () => {
    for (const [i, host] of hosts.entries()) {
      const page = await open({ ignoreHTTPSErrors: true });
      await page.goto(`https://${host}.example:8443`);
      await page.getByLabel("Token").fill("nothing");
      await page.getByRole("button", { name: logIn }).click();
      await page.getByRole("alert").waitFor();
      wrong.length = 0; // the browser tells of the 401
      await page.getByLabel("Token").fill(tokens[i]);
      await page.getByRole("button", { name: logIn }).click();
      await page.waitForURL(`https://${host}.example:8443/transfers`);
      await page.getByText("live", { exact: true }).waitFor();
      pages.push(page);
    }
  },
  "a file arrives": async () => {
    await ask("a file arrives");
    for (const page of pages) await row(page, "november.txt").getByText(done).waitFor();
  },
  "a task fails, and they read why": async () => {
    await ask("the task is broken");
    await ask("a file comes to harm");
    for (const page of pages) {
      await row(page, "december.txt").getByText(failed).waitFor();
      await row(page, "december.txt").getByRole("link").click();
      await page.getByRole("heading", { name: "december.txt" }).waitFor();
      await page.getByRole("region", { name: why }).getByText("exec").first().waitFor();
    }
    for (const page of pages) console.log(`   ${await page.getByRole("region", { name: why }).innerText()}`.replaceAll("\n", " "));
    await pages[0].locator(".lanes li.broken").first().waitFor();
    await pages[1].getByText(complaint).first().waitFor();
    must("the other host's output is its own", await pages[0].getByText(complaint).count() === 0);
  },
  "they mend it, and retry": async () => {
    await ask("the task is mended");
    await pages[0].getByRole("button", { name: retry }).click();
    for (const page of pages) await page.locator(".head").getByText(done).waitFor();
    must("both ends are done", await pages[0].locator(".lanes li.over").count() === 10);
  },
});
