// Every feature of @e2b/code-interpreter, one probe each (see harness.mjs); the names are those of interpreter.py.
import assert from 'node:assert/strict'
import { Sandbox, TimeoutError } from '@e2b/code-interpreter'
import { main, need, probe, until } from './harness.mjs'

const SECONDS = 180_000 // for what starts a kernel or imports much, on a crowded machine

probe('run_code: result, output, variables kept', async (sandbox) => {
  const done = await sandbox.runCode("import sys\nx = 41\nprint('out')\nprint('err', file=sys.stderr)\nx + 1")
  assert.deepEqual([done.text, done.logs.stdout, done.logs.stderr], ['42', ['out\n'], ['err\n']])
  assert.equal((await sandbox.runCode('x')).text, '41')
})

probe('run_code: errors', async (sandbox) => {
  const seen = []
  const done = await sandbox.runCode('1/0', { onError: (error) => { seen.push(error.name) } })
  assert.equal(done.error.name, 'ZeroDivisionError')
  assert.match(done.error.value, /division/)
  assert.deepEqual(seen, ['ZeroDivisionError'])
})

probe('run_code: callbacks', async (sandbox) => {
  const seen = []
  await sandbox.runCode("print('a')\n2", {
    onStdout: (one) => { seen.push(one.line) }, onResult: (one) => { seen.push(one.text) },
  })
  assert.deepEqual(seen, ['a\n', '2'])
})

probe('run_code: variables per call', async (sandbox) => {
  assert.equal((await sandbox.runCode("import os; os.environ['ONE']", { envs: { ONE: '1' } })).text, '1')
  assert.equal((await sandbox.runCode("os.environ.get('ONE', 'gone')")).text, 'gone')
})

probe('run_code: timeout interrupts the cell', async (sandbox) => {
  await assert.rejects(() => sandbox.runCode('import time\ntime.sleep(30)', { timeoutMs: 1000 }), TimeoutError)
  assert.equal((await sandbox.runCode("'free'")).text, 'free')
})

probe('results: HTML, Markdown, PNG, JSON, several at once', async (sandbox) => {
  const code = "from IPython.display import *\ndisplay(HTML('<b>h</b>'), Markdown('# m'))\n{'a': [1]}"
  const [html, markdown, json] = (await sandbox.runCode(code)).results
  assert.deepEqual([html.html, markdown.markdown, json.json], ['<b>h</b>', '# m', { a: [1] }])
  assert.ok(html.formats().includes('html'))
})

probe('results: charts (matplotlib)', async (sandbox) => {
  const code = "import matplotlib.pyplot as p\np.bar(['a', 'b'], [1, 2]); p.title('T'); p.show()"
  const [result] = (await sandbox.runCode(code, { timeoutMs: SECONDS })).results
  assert.ok(result.png)
  assert.deepEqual([result.chart.type, result.chart.title], ['bar', 'T'])
  assert.deepEqual(result.chart.elements.map((one) => [one.label, one.value]), [['a', 1], ['b', 2]])
})

probe('results: data frames (pandas)', async (sandbox) => {
  const done = await sandbox.runCode("import pandas\npandas.DataFrame({'n': [1, 2]})", { timeoutMs: SECONDS })
  assert.deepEqual(done.results[0].data, { n: [1, 2] })
  assert.match(done.results[0].html, /<table/)
})

probe('contexts: create, separate variables, cwd', async (sandbox) => {
  const context = await sandbox.createCodeContext({ cwd: '/tmp', language: 'python' })
  assert.equal((await sandbox.runCode('import os; y = 1; os.getcwd()', { context })).text, '/tmp')
  assert.equal((await sandbox.runCode('y')).error.name, 'NameError')
})

probe('contexts: list, restart, remove', async (sandbox) => {
  need(sandbox, 'listCodeContexts', 'restartCodeContext', 'removeCodeContext')
  const context = await sandbox.createCodeContext()
  await sandbox.runCode('z = 1', { context })
  await sandbox.restartCodeContext(context)
  assert.equal((await sandbox.runCode('z', { context })).error.name, 'NameError')
  await sandbox.removeCodeContext(context)
  assert.ok(!(await sandbox.listCodeContexts()).some((one) => one.id === context.id))
})

for (const [language, code, text] of [
  ['javascript', 'const a = [1, 2].map(n => n * 2); console.log(a.length); a[1]', '4'],
  ['typescript', 'const n: number = 6 * 7; n', '42'],
  ['bash', 'echo $((6 * 7))', '42'],
  ['r', 'cat(6 * 7)', '42'],
  ['java', 'System.out.println(6 * 7);', '42'],
]) {
  probe(`language: ${language}`, async (own) => {
    // Kernels that take seconds to start run once on the box, for all releases.
    const slow = ['r', 'java'].includes(language)
    const sandbox = slow ? await Sandbox.connect(process.env.COMPAT_LANGUAGES) : own
    const done = await sandbox.runCode(code, { language, timeoutMs: SECONDS })
    assert.equal(done.error, undefined)
    assert.ok(`${done.text ?? ''}${done.logs.stdout.join('')}`.includes(text))
  })
}

probe('a killed sandbox ends run_code with a clear error', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: SECONDS })
  const code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
  let ended
  await new Promise((begun) => {
    ended = sandbox.runCode(code, { onStdout: begun }).then(() => undefined, (error) => error)
    ended.then(begun)
  })
  await Sandbox.kill(sandbox.sandboxId)
  const { name } = (await ended) ?? {}
  if (/TimeoutError|SandboxError|NotFoundError/.test(name)) return
  throw new Error('the call ends at once, with an error of the HTTP library that this release does not translate')
})

probe('pause and resume keep variables', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: SECONDS })
  await sandbox.runCode('kept = 1')
  await (sandbox.pause ? sandbox.pause() : sandbox.betaPause())
  const again = await Sandbox.connect(sandbox.sandboxId)
  await until(async () => (await again.runCode('kept')).text === '1')
  await again.kill()
})

const shared = await Sandbox.create({ timeoutMs: 900_000 })
await main(shared, () => shared.kill())
