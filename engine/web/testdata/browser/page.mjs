// What a browser makes of the page. Arguments: which part, the page's address. In the
// environment, besides what browser.mjs takes: WATCHED, a file that the movie waits for; GO, one
// that a failed transfer does; HOSTILE, a name. The test is asked to send files to hostb by their names.
import { writeFileSync } from "node:fs";
import { ask, axe, desktop, must, open, run, wrong } from "../../webtest/browser.mjs";

const [part, url] = process.argv.slice(2);
const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 1 };

const row = (page, name) => page.locator("#rows tr", { has: page.getByRole("link", { name, exact: true }) });
// known takes back what the browser tells of something that a script has broken.
const known = (before, what) => wrong.splice(before, Infinity, ...wrong.slice(before).filter((w) => !what.test(w)));
const live = (page) => page.getByText("live", { exact: true }).waitFor();

// accessible looks at a page with axe-core, and at how wide it is.
const accessible = async (page, name) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const bad = found.violations.filter((v) => v.impact !== "minor");
  must(`${name}: ${bad.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)} ${v.nodes[0].failureSummary}`).join("\n")}`, bad.length === 0);
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0) / 3);
  must(`${name}: ${light} of 255 is not as the visitor wants it`, await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches) ? light < 64 : light > 192);
  const lost = await page.evaluate(() => [...document.querySelectorAll("[sse-swap] :is(a, button, input:not([type=hidden]), [tabindex])")].filter((e) => !e.id).map((e) => e.outerHTML.slice(0, 100)));
  must(`${name}: what is replaced would lose the keyboard: ${lost}`, lost.length === 0);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth); // innerWidth grows with it on a phone
  must(`${name}: ${wide} wide, which is wider than the screen`, wide <= page.viewportSize().width);
};

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
    "a transfer is paused, goes on and is cancelled": async () => {
      await ask("long.bin"); // a minute of bytes
      const page = await open();
      await page.goto(url);
      await row(page, "long.bin").getByText("Running").waitFor();
      await row(page, "long.bin").getByRole("link").click();
      await live(page);
      for (const [button, told, state] of [["Pause", "paused", "Paused"], ["Resume now", "resumed", "Running"], ["Cancel", "cancelled", "Cancelled"]]) {
        await page.getByRole("button", { name: button, exact: true }).click();
        await page.locator("#notice").getByText(`1 transfer ${told}.`).waitFor();
        await page.locator(".head").getByText(state, { exact: true }).waitFor();
        if (state === "Paused") await page.locator(".explain").getByText("paused by this node's operator").waitFor();
      }
      await page.context().close();
    },
    "several are paused, go on and are cancelled": async () => {
      for (const name of ["slow-1.bin", "slow-2.bin"]) await ask(name);
      const page = await open();
      await page.goto(url + "/transfers?q=slow-");
      await live(page);
      const both = (state) => page.waitForFunction((state) => document.querySelectorAll(`#rows .badge.${state}`).length === 2, state);
      await both("running");
      for (const [button, told, state] of [["Pause", "paused", "paused"], ["Resume", "resumed", "running"], ["Cancel", "cancelled", "cancelled"]]) {
        await page.getByLabel("Choose all on this page").check();
        await page.getByText("2 chosen:").waitFor();
        await page.getByRole("button", { name: button, exact: true }).click();
        await page.locator("#notice").getByText(`2 transfers ${told}.`).waitFor();
        await both(state);
      }
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
      const file = page.locator(".files li", { hasText: "<b>&.csv" });
      let lines = 0;
      const write = () => writeFileSync(process.env.OUTBOX + "/<b>&.csv", "1,2,3\n".repeat(++lines));
      write();
      const writing = setInterval(write, 200); // it waits for as long as nobody has seen that
      try {
        await file.getByText("Waiting").waitFor();
      } finally {
        clearInterval(writing);
      }
      await page.getByRole("button", { name: "Look through now: outbox" }).click();
      await page.locator("#notice").getByText("looked through").waitFor();
      await file.getByText("Kept").waitFor();
      must("a name is text", await page.locator("main b").count() === 0);
      await page.getByRole("link", { name: "Transfers" }).click();
      await page.locator("#rows tr", { hasText: "<b>&.csv" }).getByText("Done").waitFor();
      await page.context().close();
    },
    "all are chosen by finger": async () => {
      const page = await open(phone);
      await page.goto(url + "/transfers?partner=nowhere");
      await live(page);
      for (const box of await page.locator("input[type=checkbox]:visible").all()) {
        const { width, height } = await box.boundingBox();
        must(`a finger hits it: ${width}x${height}`, width >= 24 && height >= 24);
      }
      await page.getByText("Choose all", { exact: true }).tap();
      await page.getByText("5 chosen:").waitFor();
      await page.getByText("Choose all", { exact: true }).tap();
      await page.getByText("0 chosen:").waitFor({ state: "attached" });
      await page.goto(url + "/transfers?q=no+such+name");
      await live(page);
      must("there is nothing to choose", !await page.getByText("Choose all", { exact: true }).isVisible());
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
      const asks = [];
      page.removeAllListeners("dialog");
      page.once("dialog", (d) => { asks.push(d.message()); d.dismiss(); });
      await page.getByRole("button", { name: "Cancel" }).click();
      must(`it asks before it cancels: ${asks}`, asks.length === 1 && asks[0].startsWith("Cancel the chosen transfers?"));
      page.once("dialog", (d) => { asks.push(d.message()); d.accept(); });
      const answers = [];
      page.on("response", (r) => { if (r.url().endsWith("/words")) answers.push(r.status()); });
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.locator("#notice[aria-live=polite]").getByText("5 transfers cancelled.").waitFor(); // which is read out
      must(`a no cancels nothing: ${asks.length} times asked, ${answers.length} times ordered`, asks.length === 2 && answers.length === 1);
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
    known(before, /Failed to load resource|ERR_|\[object Event\]/);
    await page.context().close();
  }]))),

  // A node's own address, and TOKEN for it, SUBMITS, which may not look, and PASSING, which the test takes back.
  first: Object.assign(Object.fromEntries(Object.entries({ desktop, phone }).flatMap(([size, options]) => ["light", "dark"].map((colorScheme) => [`who comes for the first time logs in, ${size}, ${colorScheme}`, async () => {
    const page = await open({ ...options, colorScheme, ignoreHTTPSErrors: true });
    const answer = await page.goto(url);
    must("it is led to a page", answer.status() === 200 && page.url() === url + "/login?next=%2F");
    must("a stranger gets the page's icon", (await page.request.get(new URL(await page.locator("link[rel=icon]").getAttribute("href"), url).href)).ok()); // that the browser wants none it may not have, its console says
    await accessible(page, "login");
    const [field, button] = await Promise.all([page.getByLabel("Token").boundingBox(), page.getByRole("button", { name: "Log in" }).boundingBox()]);
    must("the field can be hit by a finger, is as wide as the button, and apart from it", field.height >= (options.isMobile ? 44 : 36) && field.width === button.width && button.y >= field.y + field.height + 8);
    must("a stranger sees the picture", await page.locator("main img").evaluate((i) => i.naturalWidth > 0));
    await page.goto(url + "/errors"); // where it wanted to go, it comes to after a wrong token, too
    const told = page.waitForEvent("console");
    await page.getByLabel("Token").fill("nothing");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").waitFor();
    await told;
    await accessible(page, "login, refused");
    must(`it is told of the 401 alone: ${wrong}`, wrong.length === 1 && wrong.pop().includes("401"));
    await page.getByLabel("Token").fill(process.env.TOKEN);
    await page.keyboard.press("Enter");
    await page.waitForURL(url + "/errors");
    await live(page);
    const missed = page.waitForEvent("console");
    await page.goto(url + "/nothing");
    await page.getByRole("heading", { name: "Not here" }).waitFor();
    await missed;
    await accessible(page, "not here");
    must(`it is told of the 404 alone: ${wrong}`, wrong.length === 1 && wrong.pop().includes("404"));
    await page.context().close();

    const other = await open({ ...options, colorScheme, ignoreHTTPSErrors: true }); // whose token may not look
    const refused = other.waitForEvent("console");
    await other.goto(url + "/login");
    await other.getByLabel("Token").fill(process.env.SUBMITS);
    await other.keyboard.press("Enter");
    await other.getByRole("heading", { name: "Not allowed" }).waitFor();
    await refused;
    await accessible(other, "not allowed");
    must(`it is told of the 403 alone: ${wrong}`, wrong.length === 1 && wrong.pop().includes("403"));
    await other.context().close();
  }]))), Object.fromEntries([
    ["its token is taken back", process.env.PASSING, () => ask("passing")],
    ["it is unknown after a restart", process.env.TOKEN, async (page) => {
      await page.context().clearCookies();
      await page.getByRole("searchbox").fill("y");
    }],
  ].map(([why, token, end]) => [`whose session ends is led to where one logs in: ${why}`, async () => {
    const page = await open({ ...desktop, ignoreHTTPSErrors: true });
    await page.goto(url + "/transfers?q=x");
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await live(page);
    const before = wrong.length;
    await end(page);
    await page.waitForURL(url + "/login?next=%2Ftransfers%3Fq%3Dx");
    known(before, /Failed to load resource|\[object Event\]/);
    await page.context().close();
  }]))),

  // 120 transfers that wait, 60 for each of there and far, one of there that runs, and three from third
  // that are done. A word may be said on 40.
  words: {
    "the selects filter": async () => {
      const page = await open();
      await page.goto(url);
      await live(page);
      const partners = (one) => page.waitForFunction((one) => { const all = [...document.querySelectorAll("#rows td.partner span:not([class])")]; return all.length > 0 && all.every((e) => e.textContent === one); }, one);
      await page.getByLabel("Partner").selectOption("far");
      await page.waitForURL("**/transfers?partner=far");
      await partners("far");
      await page.getByText("Page 1 of 2").waitFor();
      await page.getByLabel("Partner").selectOption("there");
      await page.waitForURL("**/transfers?partner=there");
      await partners("there");
      await page.getByLabel("States").getByRole("link", { name: /^Running/ }).click();
      await page.waitForURL((u) => u.searchParams.get("state") === "running" && u.searchParams.get("partner") === "there");
      await page.waitForFunction(() => document.querySelectorAll("#rows tr:not(.none)").length === 1);
      await page.getByLabel("Partner").selectOption("far"); // the state stays
      await page.waitForURL((u) => u.searchParams.get("state") === "running" && u.searchParams.get("partner") === "far");
      await page.locator("#rows tr.none").waitFor();
      await page.goto(url);
      await live(page);
      await page.getByLabel("Direction").selectOption("in");
      await page.waitForURL("**/transfers?way=in");
      await page.locator(".pager").getByText("3 transfers").waitFor();
      must("to here", await page.locator("#rows td.partner", { hasText: "from" }).count() === 3);
      await page.getByLabel("Direction").selectOption("out");
      await page.waitForURL("**/transfers?way=out");
      await page.locator(".pager").getByText("121 transfers").waitFor();
      await page.getByLabel("Direction").selectOption("");
      await page.getByLabel("Rule").selectOption("in");
      await page.waitForURL("**/transfers?rule=in");
      await page.locator(".pager").getByText("3 transfers").waitFor();
      await page.context().close();
    },
    "page by page": async () => {
      const page = await open();
      await page.goto(url + "/transfers?way=out");
      await live(page);
      const names = () => page.locator("#rows th.name").allInnerTexts();
      const seen = [];
      for (const [n, rows] of [[1, 50], [2, 50], [3, 21]]) {
        await page.getByText(`Page ${n} of 3`).waitFor();
        await live(page);
        must(`${rows} rows on page ${n}`, await page.locator("#rows tr").count() === rows);
        seen.push(...await names());
        if (n < 3) await page.getByRole("link", { name: "Next", exact: true }).click();
      }
      must("each transfer is on one page", new Set(seen).size === 121);
      must("the last page is the last", await page.getByRole("link", { name: "Next", exact: true }).count() === 0);
      await page.getByRole("link", { name: "Previous", exact: true }).click();
      await page.getByText("Page 2 of 3").waitFor();
      must("the page before has its rows", (await names()).join() === seen.slice(50, 100).join());
      await page.getByLabel("Partner").selectOption("far"); // whose list begins with its first page
      await page.waitForURL((u) => u.searchParams.get("partner") === "far" && !u.searchParams.has("page"));
      await page.getByText("Page 1 of 2").waitFor();
      await page.context().close();
    },
    "the browser keeps what the page must not do": async () => {
      const page = await open();
      await page.goto(url);
      await live(page);
      const before = wrong.length;
      const done = await page.evaluate(async () => { // as a name would that is no text
        const refused = [];
        document.addEventListener("securitypolicyviolation", (e) => refused.push(e.effectiveDirective));
        const box = document.createElement("div");
        box.innerHTML = "<img src=x:y onerror=window.ran=1><p style='color:red' onclick=window.ran=1>x</p>";
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        box.append(script);
        const frame = document.createElement("iframe");
        frame.src = location.href;
        box.append(frame);
        document.body.append(box);
        box.querySelector("p").click();
        const called = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
        for (let i = 0; i < 100 && new Set(refused).size < 6; i++) await new Promise((on) => setTimeout(on, 100));
        return { ran: window.ran, called, refused: [...new Set(refused)].sort().join(), colour: getComputedStyle(box.querySelector("p")).color };
      });
      must(`nothing of it was done: ${JSON.stringify(done)}`, !done.ran && !done.called && done.colour !== "rgb(255, 0, 0)");
      must(`by its policy: ${done.refused}`, done.refused === "connect-src,frame-src,img-src,script-src-attr,script-src-elem,style-src-attr");
      known(before, /Content Security Policy/);
      await page.context().close();
    },
    "a detail page by keyboard": async () => {
      const page = await open();
      await page.goto(url + process.env.RUNNING);
      await live(page);
      const reach = async (what, is) => {
        for (let i = 0; i < 60; i++) {
          if (await page.evaluate(is)) return;
          await page.keyboard.press("Tab");
          const e = await page.evaluate(() => {
            const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
            return { body: e === document.body, id: e.id || e.textContent.trim().slice(0, 20), seen: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 && r.width * r.height > 0 };
          });
          must(`the focus is seen on ${e.id}`, e.body || e.seen);
        }
        must(`${what} cannot be reached`, false);
      };
      await reach("Pause", () => document.activeElement.id === "do-pause");
      await page.keyboard.press("Enter");
      await page.getByText("1 transfer paused.").waitFor();
      await page.locator(".head").getByText("Paused").waitFor();
      await reach("Resume", () => document.activeElement.id === "do-resume");
      await page.keyboard.press("Space");
      await page.getByText("1 transfer resumed.").waitFor();
      await page.locator(".head").getByText("Waiting").waitFor();
      await reach("the events", () => document.activeElement.getAttribute("aria-labelledby") === "h-events");
      await page.context().close();
    },
    "a word without a script": async () => {
      for (const options of [{ ...desktop, javaScriptEnabled: false }, desktop, { ...phone, colorScheme: "dark" }]) {
        const page = await open(options);
        const own = options.javaScriptEnabled ?? true; // which axe-core needs for itself
        if (own) await page.route("**/*.js?*", (r) => r.fulfill({ contentType: "text/javascript", body: "" }));
        await page.goto(url + "/transfers?partner=there&state=waiting");
        await page.locator("#rows input").first().check();
        await page.getByRole("button", { name: "Pause" }).click();
        await page.getByRole("heading", { name: "Done" }).waitFor();
        await page.getByText("1 transfer paused.").waitFor();
        must("it is a page of its own", page.url() === url + "/words");
        if (own) await accessible(page, "answer");
        await page.context().close();
      }
    },
    "looked for and read without a script": async () => {
      const page = await open({ ...desktop, javaScriptEnabled: false });
      await page.goto(url);
      await page.getByLabel("Partner").selectOption("far");
      await page.getByRole("searchbox").fill("file-0000");
      await page.getByRole("button", { name: "Search" }).click();
      await page.waitForURL((u) => u.searchParams.get("partner") === "far" && u.searchParams.get("q") === "file-0000");
      await page.locator(".pager").getByText("5 transfers").waitFor();
      must("the selects say it", await page.getByLabel("Partner").inputValue() === "far" && await page.getByRole("searchbox").inputValue() === "file-0000");
      await page.goto(url + "/transfers?partner=far");
      await page.getByRole("link", { name: "Next", exact: true }).click();
      await page.getByText("Page 2 of 2").waitFor();
      await page.locator("#rows a").first().click();
      await page.getByRole("heading", { level: 1, name: /^file-/ }).waitFor();
      await page.getByRole("button", { name: "Pause" }).waitFor();
      await page.context().close();
    },
    "what fails takes the place of nothing": async () => {
      const page = await open();
      await page.goto(url);
      await live(page);
      const before = wrong.length;
      const told = async (text) => {
        await page.locator("#notice").getByText(text, { exact: true }).waitFor();
        must("it is text", await page.locator("#notice b").count() === 0);
        await page.mouse.move(0, 0);
      };
      for (const [status, contentType, body, text] of [
        [503, "application/json", '{"error":"<b>busy</b>: wait","kind":"overloaded"}', "<b>busy</b>: wait"],
        [429, "text/plain", "<b>slowly</b>", "<b>slowly</b>"],
        [503, "text/html; charset=utf-8", '<div class="notice bad"><p>draining</p></div>', "draining"],
      ]) {
        await page.route("**/transfers?q=*", (r) => r.fulfill({ status, contentType, body }));
        await page.getByRole("searchbox").fill(text);
        await told(text);
        must("the list is where it was", await page.locator("#rows input").count() === 50);
        await page.unroute("**/transfers?q=*");
      }
      await page.goto(url + "/transfers?partner=far");
      await live(page);
      await page.locator("#rows input").nth(0).check();
      await page.locator("#rows input").nth(1).check();
      for (const [answer, text] of [[(r) => r.fulfill({ status: 503, contentType: "text/plain", body: "not now" }), "not now"], [(r) => r.abort(), "The node does not answer. When it is back, look what has become of this."]]) {
        await page.route("**/words", answer, { times: 1 });
        await page.getByRole("button", { name: "Pause" }).click();
        await told(text);
        must("what is chosen stays", await page.locator("#rows input:checked").count() === 2);
      }
      await page.getByRole("button", { name: "Pause" }).click();
      await told("2 transfers paused.");
      must("what is said is chosen no more", await page.locator("#rows input:checked").count() === 0);
      known(before, /Failed to load resource|htmx:/);
      await page.context().close();
    },
    "a page that is left has ended its stream, and one that is come back to is asked for anew": async () => {
      const page = await open();
      await page.goto(url);
      await live(page);
      const ended = page.waitForEvent("requestfailed", (r) => r.url().includes("/live/"));
      await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
      await ended;
      const anew = page.waitForEvent("load");
      await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
      await anew;
      await live(page);
      await page.context().close();
    },
    "a word over all that match": async () => {
      const page = await open();
      await page.goto(url + "/transfers?partner=far");
      await live(page);
      for (const told of ["40 transfers cancelled. 20 more match, which is too many for one word: say it again.", "20 transfers cancelled."]) {
        await page.locator("#rows input").first().check();
        await page.getByLabel("all that match").check();
        await page.getByText("All that match:").waitFor();
        await page.getByRole("button", { name: "Cancel" }).click();
        await page.locator("#notice").getByText(told, { exact: true }).waitFor();
      }
      await page.goto(url + "/transfers?partner=far&state=cancelled");
      await page.locator(".pager").getByText("60 transfers").waitFor();
      await page.goto(url + "/transfers?state=cancelled");
      await page.locator(".pager").getByText("60 transfers").waitFor();
      await page.context().close();
    },
  },

  // A node with everything there is to see.
  looks: {},

  // Three nodes: nothing has ever happened; one has FAILED; three run, of a BUSY one.
  sight: {},
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
        await accessible(page, name);
        if (name === "list") await page.locator("#rows input").first().uncheck();
        await page.mouse.move(0, 0);
        await page.screenshot({ path: `${process.env.OUT}/${name.replace(" ", "-")}-${size}-${colorScheme}.png` });
      }
      await page.context().close();
    };
  }
}

for (const [size, options] of Object.entries({ desktop, phone })) {
  for (const colorScheme of ["light", "dark"]) {
    parts.sight[`what is seen first, ${size}, ${colorScheme}`] = async () => {
      const page = await open({ ...options, colorScheme });
      const seen = async (what, it) => { // without scrolling
        await it.waitFor();
        const at = await it.boundingBox();
        must(`${what} is not in sight: ${JSON.stringify(at)}`, at && at.y >= 0 && at.y + at.height <= page.viewportSize().height && at.x >= 0 && at.x + at.width <= page.viewportSize().width);
      };
      const look = async (name, address) => {
        await page.goto(address);
        await live(page);
        await accessible(page, name);
        await page.mouse.move(0, 0);
        await page.screenshot({ path: `${process.env.OUT}/first-${name}-${size}-${colorScheme}.png` });
      };
      await look("empty", url);
      await seen("how to begin", page.getByText("pannier send"));
      await look("failed", process.env.FAILED);
      await seen("that one has failed", page.getByLabel("States").getByRole("link", { name: "Failed 1" }));
      await seen("which, and why", page.locator("#rows tr", { hasText: "november.xml" }).getByText("no space left on device"));
      await look("busy", process.env.BUSY);
      for (const word of ["64 MiB/s · 16 s left", "limited by the disk", "75 %"]) await seen(word, page.getByText(word).first());
      if (size === "desktop") for (const it of await page.locator("#rows tr").all()) await seen("each that runs", it);
      await page.context().close();
    };
  }
}
await run(parts[part]);
