// What a browser makes of the page. Arguments: which part, the page's address. In the
// environment, besides what browser.mjs takes: WATCHED, a file that the movie waits for; GO, one
// that a failed transfer does; HOSTILE, a name.
import { writeFileSync } from "node:fs";
import { axe, desktop, must, open, run, wrong } from "../../webtest/browser.mjs";

const [part, url] = process.argv.slice(2);
const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 1 };

const row = (page, name) => page.locator("#rows tr", { has: page.getByRole("link", { name, exact: true }) });
const live = (page) => page.getByText("live", { exact: true }).waitFor();

const parts = {
  // Two real nodes.
  nodes: {
    "a transfer is watched to its end": async () => {
      const page = await open();
      await page.goto(url);
      await live(page);
      writeFileSync(process.env.WATCHED, "");
      const r = row(page, "movie.bin");
      await r.getByText("Running").waitFor();
      await page.locator("#rows").getByText("limited by").first().waitFor();
      const bar = () => r.locator("progress").evaluate((e) => e.value);
      const before = await bar();
      await page.waitForFunction(([before]) => [...document.querySelectorAll("#rows tr")].some((r) => r.textContent.includes("movie.bin") && (!r.querySelector("progress") || r.querySelector("progress").value > before)), [before]);
      await r.getByRole("link").click();
      await page.getByRole("heading", { name: "movie.bin" }).waitFor();
      await page.locator(".head").getByText("Done").waitFor();
      await page.locator(".lanes li.over", { hasText: "Done" }).nth(1).waitFor();
      must("both ends are done", await page.locator(".lanes li.over").count() === 10);
      await page.locator(".lane", { hasText: "As hostb says" }).getByText("task 1:").waitFor(); // which only hostb knows
      await page.waitForFunction(() => document.querySelectorAll(".lanes .is time").length === 10); // each step of both has its time
      must("a task's details stay where they are", !(await page.content()).includes("a-secret-of-hostb"));
      must("the digest is there", await page.getByText(/sha256:[0-9a-f]{64}/).count() === 1);
      must("nothing can be done with it", await page.locator(".actions button").count() === 0);
      await page.context().close();
    },
    "a failed transfer is retried": async () => {
      const page = await open();
      await page.goto(url + "/errors");
      await page.getByText("1 transfer has failed").waitFor();
      await page.locator(".cause h2 a").click();
      await row(page, "broken.bin").getByText("Failed").waitFor();
      await row(page, "broken.bin").getByRole("link").click();
      await page.locator(".explain").getByText("failed in the tasks before the bytes").waitFor();
      await page.locator(".lanes li.broken", { hasText: "Tasks before" }).waitFor();
      await page.locator("table.log").getByText("exit status 1").first().waitFor(); // the node's log about it
      writeFileSync(process.env.GO, "");
      await page.getByRole("button", { name: "Retry" }).click();
      await page.getByText("1 transfer retried.").waitFor();
      await page.locator(".head").getByText("Done").waitFor();
      await page.context().close();
    },
    "a watched folder is watched": async () => {
      const page = await open();
      await page.goto(url);
      await page.getByRole("link", { name: "Folders" }).click();
      await page.locator(".partner", { hasText: "outbox" }).getByText("Watching").waitFor();
      await page.getByRole("link", { name: "outbox" }).click();
      await live(page);
      await page.getByText("There are none.").waitFor();
      writeFileSync(process.env.OUTBOX + "/<b>&.csv", "1,2,3\n");
      const file = page.locator(".files li", { hasText: "<b>&.csv" });
      await file.getByText("Waiting").waitFor();
      await page.getByRole("button", { name: "Look through now: outbox" }).click();
      await page.locator("#notice").getByText("looked through").waitFor();
      await file.getByText("Kept").waitFor();
      must("a name is text", await page.locator("main b").count() === 0);
      await page.getByRole("link", { name: "Transfers" }).click();
      await page.locator("#rows tr", { hasText: "<b>&.csv" }).getByText("Done").waitFor();
      await page.context().close();
    },
    "several are cancelled at once": async () => {
      const page = await open();
      await page.goto(url + "/transfers?partner=nowhere");
      await live(page);
      const boxes = page.locator("#rows input");
      must("five wait", await boxes.count() === 5);
      must("no words before something is chosen", !await page.getByRole("button", { name: "Cancel" }).isVisible());
      await boxes.nth(0).check();
      await page.getByText("1 chosen:").waitFor();
      await page.getByLabel("Choose all on this page").check();
      await page.getByText("5 chosen:").waitFor();
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByText("5 transfers cancelled.").waitFor();
      await page.mouse.move(0, 0);
      await page.waitForFunction(() => document.querySelectorAll("#rows .badge.cancelled").length === 5);
      await page.context().close();
    },
    "a hostile name stays text": async () => {
      const page = await open();
      await page.goto(url);
      const name = process.env.HOSTILE;
      await row(page, name).getByText("Done").waitFor();
      await page.waitForTimeout(2500);
      must("no picture", await page.locator("main img, main script").count() === 0);
      await row(page, name).getByRole("link").click();
      await page.getByRole("heading", { name }).waitFor();
      await page.waitForTimeout(1500);
      must("the title is the name", (await page.title()).startsWith(name));
      must("no picture", await page.locator("main img, main script").count() === 0);
      await page.goto(url + "/transfers?q=" + encodeURIComponent(name));
      must("it is found", await page.locator("#rows tr").count() === 1);
      await page.context().close();
    },
    "what is typed is looked for": async () => {
      const page = await open();
      await page.goto(url);
      await page.getByRole("searchbox").fill("movie");
      await page.waitForURL("**/transfers?q=movie");
      must("one row", await page.locator("#rows tr").count() === 1);
      must("the field keeps the focus", await page.getByRole("searchbox").evaluate((e) => e === document.activeElement));
      await live(page);
      await page.goBack();
      await page.waitForURL((u) => u.search === "");
      for (const word of ["movi", "movie"]) { // Enter while an earlier word is looked for: nothing is broken off
        await page.getByRole("searchbox").fill("");
        await page.getByRole("searchbox").pressSequentially(word);
        await page.getByRole("searchbox").press("Enter");
        await page.waitForURL("**/transfers?q=" + word);
      }
      await page.context().close();
    },
    "a list does not move under the hand": async () => {
      const page = await open();
      await page.goto(url + "/transfers?partner=nowhere&state=cancelled");
      await live(page);
      const boxes = page.locator("#rows input");
      await boxes.nth(0).check();
      const other = await boxes.nth(1).inputValue();
      const said = await page.request.post(url + "/words", { form: { word: "retry", id: other } });
      must("the other one is retried", said.ok());
      await page.getByRole("link", { name: "The list has changed" }).waitFor();
      must("the rows are where they were", await boxes.count() === 5 && await boxes.nth(0).isChecked());
      await page.getByRole("link", { name: "The list has changed" }).click();
      await page.waitForFunction(() => document.querySelectorAll("#rows input").length === 4);
      await page.context().close();
    },
    "all of it by keyboard": async () => {
      const page = await open();
      await page.goto(url + "/transfers?partner=nowhere&state=cancelled");
      await live(page);
      await page.keyboard.press("Tab");
      must("the way to the content is first", await page.evaluate(() => document.activeElement.className) === "skip");
      await page.keyboard.press("Enter");
      await page.keyboard.press("Tab");
      must("the content follows", await page.evaluate(() => document.activeElement.id) === "q");
      const seen = new Set();
      let out = false;
      for (let i = 0; i < 80 && !out; i++) {
        const e = await page.evaluate(() => {
          const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
          return { body: e === document.body, id: e.id || e.textContent.trim().slice(0, 20), outline: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0, area: r.width * r.height };
        });
        if (e.body) { out = true; break; }
        must(`the focus is seen on ${e.id}`, e.outline && e.area > 0);
        seen.add(e.id);
        await page.keyboard.press("Tab");
      }
      must("the keyboard is not trapped", out);
      const target = [...seen].find((id) => id.endsWith("-pick"));
      must("a row can be reached", target);
      await page.locator("#" + target).focus();
      await page.keyboard.press("Space");
      must("it is chosen", await page.locator("#" + target).isChecked());
      await page.waitForTimeout(1500);
      must("it stays chosen, and has the focus", await page.locator("#" + target).isChecked() && await page.evaluate(() => document.activeElement.id) === target);
      for (let i = 0; i < 40 && await page.evaluate(() => document.activeElement.value) !== "retry"; i++) await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.getByText("1 transfer retried.").waitFor();
      await page.context().close();
    },
  },

  // A node whose streams break off: GET /break ends all, and refuses new ones until /mend; /run
  // and /end begin and end a transfer.
  broken: Object.fromEntries([["the connection is gone", "?only=1"], ["the node answers with errors", ""]].flatMap(([how, query]) => ["/transfers?state=running", "/transfers"].map((path, i) => [`${how}: ${path}`, async () => {
    const said = async (order) => {
      for (let i = 0; i < 5; i++) try { return must(order, (await fetch(url + order)).ok); } catch { /* the connection was broken, too */ }
      must(order, false);
    };
    const page = await open();
    const before = wrong.length;
    const r = row(page, `file-0000${(query ? 1 : 3) + i}.bin`);
    await page.goto(url + path);
    await live(page);
    await said("/run");
    await r.getByText("Running").waitFor();
    await said("/break" + query);
    await page.getByText("not connected").waitFor();
    await said("/end");
    await said("/mend");
    await live(page);
    if (path === "/transfers") await r.getByText("Done").waitFor();
    else await page.locator("#rows tr.none").waitFor(); // as when the page came: it is told all the same
    wrong.splice(before, Infinity, ...wrong.slice(before).filter((w) => !/Failed to load resource|ERR_|\[object Event\]/.test(w))); // the browser tells of what broke
    await page.context().close();
  }]))),

  // A node with everything there is to see.
  looks: {},
};

parts.looks["the first content is there in time"] = async () => {
  const page = await open();
  await page.goto(url + "/transfers");
  const times = [];
  for (let i = 0; i < 7; i++) {
    await page.goto(url + "/transfers");
    times.push(await page.evaluate(() => new Promise((done) => {
      const n = performance.getEntriesByType("navigation")[0];
      new PerformanceObserver((l) => { for (const e of l.getEntries()) if (e.name === "first-contentful-paint") done([e.startTime, n.responseEnd, n.domInteractive]); }).observe({ type: "paint", buffered: true });
    })));
  }
  times.sort((a, b) => a[0] - b[0]);
  console.log(`   first content after ${Math.round(times[3][0])} ms, at best ${Math.round(times[0][0])} ms; the page was there after ${Math.round(times[0][1])} ms`);
  await page.context().close();
};

const views = { list: "/transfers", failed: "/transfers?state=failed", none: "/transfers?q=no+such+name", errors: "/errors", partners: "/partners", folders: "/folders", folder: "/folders/outbox", times: "/times", running: process.env.RUNNING, broken: process.env.BROKEN, "not here": "/nothing" };
for (const [size, options] of Object.entries({ desktop, phone })) {
  for (const colorScheme of ["light", "dark"]) {
    parts.looks[`accessible, ${size}, ${colorScheme}`] = async () => {
      const page = await open({ ...options, colorScheme });
      for (const [name, path] of Object.entries(views)) {
        const before = wrong.length;
        await page.goto(url + path);
        if (name === "not here") wrong.length = before; // the browser tells of the 404
        else if (name !== "times") await live(page); // it is as it was when it was asked for
        if (name === "list") await page.locator("#rows input").first().check();
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const bad = found.violations.filter((v) => v.impact === "serious" || v.impact === "critical");
        must(`${name}: ${bad.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)} ${v.nodes[0].failureSummary}`).join("\n")}`, bad.length === 0);
        must(`${name}: wider than the screen`, await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
        if (name === "list") await page.locator("#rows input").first().uncheck();
        await page.mouse.move(0, 0);
        await page.screenshot({ path: `${process.env.OUT}/${name.replace(" ", "-")}-${size}-${colorScheme}.png` });
      }
      await page.context().close();
    };
  }
}
await run(parts[part]);
