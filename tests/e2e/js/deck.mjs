// The flight deck in headless Chromium: node deck.mjs URL-WITH-TOKEN. Prints "ok", or throws what was wrong.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const url = process.argv[2];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 } });
  const page = await context.newPage();
  const foreign = [];
  let shown = "";
  page.on("request", (request) => new URL(request.url()).host === new URL(url).host || foreign.push(request.url()));
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => (shown += payload.toString())));
  const until = async (what) => {
    const end = Date.now() + 60_000;
    while (!what()) {
      assert(Date.now() < end, `not shown in time; last: ${JSON.stringify(shown.slice(-800))}`);
      await page.waitForTimeout(50);
    }
  };

  assert.equal((await page.goto(new URL("/", url).href)).status(), 401, "without the token nothing is shown");
  assert.match(await page.textContent("body"), /needs its token/);

  await page.goto(url);
  assert.equal(page.url(), new URL("/", url).href, "the token leaves the address");
  await page.waitForSelector("body.-first-byte", { timeout: 60_000 });
  await until(() => shown.includes("Overview") && shown.includes("code-interpreter"));
  shown = "";
  await page.keyboard.press("3"); // no click before: the keys go to the deck from the start
  await until(() => shown.includes("SANDBOX") && shown.includes("available"));

  shown = "";
  await page.keyboard.press("s"); // a shell in the sandbox under the cursor
  await until(() => shown.includes("ends with exit") && /[#$] /.test(shown));
  await page.keyboard.type("echo $((6*7)):$((7*7))\n");
  await until(() => shown.includes("42:49"));
  const size = async () => {
    shown = "";
    await page.keyboard.type("echo size=$(stty size | tr ' ' x)\n");
    await until(() => /size=\d+x\d+/.test(shown));
    return shown.match(/size=(\d+)x(\d+)/).slice(1).map(Number);
  };
  const large = await size();
  await page.setViewportSize({ width: 900, height: 500 });
  for (let small = large; small[0] >= large[0] || small[1] >= large[1]; ) small = await size();
  shown = "";
  await page.keyboard.type("exit\n"); // back in the deck
  await until(() => shown.includes("SANDBOX") && shown.includes("STATE"));
  await page.setViewportSize({ width: 1280, height: 720 });

  const second = await context.newPage(); // --web-sessions 1
  assert.equal((await second.goto(new URL("/", url).href)).status(), 503, "a visitor too many is refused");
  await second.close();

  await page.keyboard.type(":quit\n");
  await page.waitForSelector("body.-closed", { timeout: 60_000 });
  assert.match(await page.textContent(".closed"), /session has ended/);
  assert.deepEqual(foreign, [], "nothing is fetched from other hosts");
  console.log("ok");
} finally {
  await browser.close();
}
