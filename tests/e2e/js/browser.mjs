// The JavaScript SDK in a page of another origin, bundled as front ends do: node browser.mjs ESBUILD. Prints "ok".
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const { build } = await import(process.argv[2]);
const page = `
import { Sandbox } from "e2b"
window.life = async (access) => {
  const told = {}
  const sandbox = await Sandbox.create("code-interpreter", { ...access, timeoutMs: 60_000, metadata: { page: "1" } })
  told.command = (await sandbox.commands.run("echo from a page")).stdout
  await sandbox.files.write("/tmp/page.txt", "written by a page")
  told.file = await sandbox.files.read("/tmp/page.txt")
  const pages = Sandbox.list({ ...access, limit: 1, query: { metadata: { page: "1" } } })
  told.listed = (await pages.nextItems())[0].sandboxId === sandbox.sandboxId
  told.unknown = await Sandbox.getInfo("inowhere", access).catch((error) => error.name)
  told.killed = await sandbox.kill()
  return told
}`;
const absent = {
  name: "node's own modules are not there",
  setup(made) {
    made.onResolve({ filter: /^(node:.*|undici|tar|glob)$/ }, ({ path }) => ({ path, namespace: "absent" }));
    made.onLoad({ filter: /.*/, namespace: "absent" }, () => ({ contents: "module.exports = {}", loader: "js" }));
  },
};
await writeFile("page.mjs", page);
const bundle = await build({
  entryPoints: ["page.mjs"],
  bundle: true,
  format: "esm",
  platform: "browser",
  write: false,
  plugins: [absent],
  logLevel: "error",
});
const script = bundle.outputFiles[0].text;

const server = createServer((request, response) => {
  const js = request.url === "/page.js";
  response.writeHead(200, { "content-type": js ? "text/javascript" : "text/html" });
  response.end(js ? script : '<script type="module" src="/page.js"></script>');
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  const tab = await browser.newPage();
  const complaints = [];
  tab.on("pageerror", (error) => complaints.push(error.message));
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  const loaded = tab.waitForFunction(() => window.life, null, { timeout: 30_000 });
  await loaded.catch(() => assert.fail(complaints.join("\n")));
  const { E2B_API_KEY: apiKey, E2B_API_URL: apiUrl, E2B_SANDBOX_URL: sandboxUrl } = process.env;
  assert.deepEqual(await tab.evaluate((given) => window.life(given), { apiKey, apiUrl, sandboxUrl }), {
    command: "from a page\n",
    file: "written by a page",
    listed: true,
    unknown: "SandboxNotFoundError",
    killed: true,
  });
  console.log("ok");
} finally {
  await browser.close();
  server.close();
}
