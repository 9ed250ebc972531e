// The JavaScript SDK, unmodified, against a real box: one life of a sandbox, its data, its errors. Fails by assertion.
import assert from 'node:assert/strict'
import { NotFoundError, Sandbox, SandboxNotFoundError, TimeoutError } from 'e2b'

const TEMPLATE = 'code-interpreter'
const metadata = { 'a b': 'c&d=e', 'ü': '%41+ x/', run: crypto.randomUUID() }
const sandbox = await Sandbox.create(TEMPLATE, { timeoutMs: 60_000, metadata, envs: { X: '1' } })
try {
  const info = await sandbox.getInfo()
  assert.deepEqual(info.metadata, metadata)
  assert.equal(info.state, 'running')
  assert.equal(info.name, TEMPLATE)

  const listed = await Sandbox.list({ query: { metadata } }).nextItems()
  assert.deepEqual(listed.map((one) => one.sandboxId), [sandbox.sandboxId])
  const others = await Sandbox.list({ query: { metadata: { ...metadata, 'a b': 'c' } } }).nextItems()
  assert.deepEqual(others, [])

  assert.equal((await sandbox.commands.run('echo $X')).stdout, '1\n')
  await sandbox.files.write('a.txt', 'hello')
  await sandbox.files.write('empty', '')
  assert.equal(await sandbox.files.read('a.txt'), 'hello')
  assert.equal(await sandbox.files.read('empty'), '')
  await assert.rejects(() => sandbox.files.read('missing'), NotFoundError)

  let screen = ''
  const decoder = new TextDecoder()
  const terminal = await sandbox.pty.create({
    cols: 80, rows: 24, timeoutMs: 0, onData: (data) => { screen += decoder.decode(data) },
  })
  await sandbox.pty.resize(terminal.pid, { cols: 132, rows: 24 })
  await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit\n'))
  await terminal.wait()
  assert.match(screen, /24 132/)

  const headers = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983' }
  const url = await sandbox.downloadUrl('a.txt', { useSignatureExpiration: 10_000 })
  assert.equal(await (await fetch(url, { headers })).text(), 'hello')
  const forged = await fetch(url.replace('v1_', 'v1_0'), { headers })
  assert.deepEqual([forged.status, (await forged.json()).code], [401, 401])

  await sandbox.setTimeout(90_000)
  assert.ok((await sandbox.getInfo()).endAt.getTime() - Date.now() > 80_000)
  assert.ok((await sandbox.getMetrics()).every((one) => one.memTotal > 0))

  assert.equal(await sandbox.pause(), true)
  assert.equal(await sandbox.pause(), false)
  assert.equal(await sandbox.isRunning(), false)
  const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 60_000 })
  assert.equal((await again.commands.run('echo $X')).stdout, '1\n')

  if (!process.env.APPLIANCE_TEST_NO_EGRESS) { // nodes of a real cluster do not carry out egress rules
    await again.updateNetwork({ denyOut: ['198.51.100.1'] })
    assert.deepEqual((await again.getInfo()).network?.denyOut, ['198.51.100.1'])
  }

  const started = Promise.withResolvers ? Promise.withResolvers() : deferred()
  const running = again.commands.run('echo started; sleep 60', { onStdout: () => started.resolve() })
  const outcome = assert.rejects(running, TimeoutError)
  await started.promise
  assert.equal(await sandbox.kill(), true)
  await outcome
  assert.equal(await sandbox.kill(), false)
  assert.equal(await sandbox.isRunning(), false)
  await assert.rejects(() => sandbox.setTimeout(1000), SandboxNotFoundError)
  await assert.rejects(() => Sandbox.connect(sandbox.sandboxId), SandboxNotFoundError)
  await assert.rejects(() => Sandbox.create('no-such-template'), /template 'no-such-template' not found/)
} finally {
  await sandbox.kill()
}
console.log('ok')

function deferred() {
  const one = {}
  one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }))
  return one
}
