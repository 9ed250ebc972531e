// Every feature of the JavaScript SDK e2b, one probe each (see harness.mjs); the names are those of sdk.py.
import assert from 'node:assert/strict'
import * as e2b from 'e2b'
import { Absent, declares, main, need, probe, TEMPLATE, until } from './harness.mjs'

const { Sandbox, Template } = e2b
const create = (options = {}) => Sandbox.create(TEMPLATE, { timeoutMs: 300_000, ...options })
const pause = (sandbox) => {
  if (!sandbox.pause) need(sandbox, 'betaPause')
  return sandbox.pause ? sandbox.pause() : sandbox.betaPause()
}
async function serve(sandbox, port, program = `python3 -m http.server ${port} --bind 127.0.0.1`) {
  await sandbox.commands.run(program, { background: true, timeoutMs: 0 })
  const line = `for i in $(seq 300); do (: </dev/tcp/127.0.0.1/${port}) 2>/dev/null && break; sleep 0.1; done`
  await sandbox.commands.run(`bash -c '${line}'`, { timeoutMs: 120_000 })
}

probe('create, kill, is_running', async () => {
  const sandbox = await create() // kill() says nothing in old releases
  assert.equal(await sandbox.isRunning(), true)
  await sandbox.kill()
  assert.equal(await sandbox.isRunning(), false)
})

probe('connect to a running sandbox', async (sandbox) => {
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('echo here')).stdout, 'here\n')
})

probe('info, metadata of any characters', async () => {
  const metadata = { 'a b': 'c&d=e', ü: '%41+ x/' }
  const sandbox = await create({ metadata })
  const info = await sandbox.getInfo()
  await sandbox.kill()
  assert.deepEqual(info.metadata, metadata)
  assert.ok(info.endAt > info.startedAt)
})

probe('list: metadata and state filters, paging', async () => {
  const metadata = { 'run/of': `${crypto.randomUUID()} %&=` }
  const made = [await create({ metadata }), await create({ metadata })]
  const pages = Sandbox.list({ query: { metadata, state: ['running'] }, limit: 1 })
  const seen = [...(await pages.nextItems()), ...(await pages.nextItems())].map((one) => one.sandboxId)
  for (const sandbox of made) await sandbox.kill()
  assert.deepEqual(seen, made.map((one) => one.sandboxId).reverse())
  assert.deepEqual(await Sandbox.list({ query: { metadata } }).nextItems(), [])
})

probe('timeout, longer and shorter', async () => {
  const sandbox = await create()
  const ends = []
  for (const milliseconds of [300_000, 30_000]) {
    await sandbox.setTimeout(milliseconds)
    ends.push((await sandbox.getInfo()).endAt.getTime())
  }
  await sandbox.kill()
  assert.ok(ends[0] - ends[1] > 200_000 && ends[0] - ends[1] < 275_000)
})

probe('timeout ends the sandbox', async () => {
  const sandbox = await create({ timeoutMs: 1000 })
  await until(async () => !(await sandbox.isRunning()))
})

probe('pause and resume, memory kept', async () => {
  const sandbox = await create()
  const handle = await sandbox.commands.run('sleep 600; echo never', { background: true, timeoutMs: 0 })
  await pause(sandbox)
  assert.equal(await sandbox.isRunning(), false)
  const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 300_000 })
  assert.deepEqual((await again.commands.list()).map((one) => one.pid), [handle.pid])
  await again.kill()
})

probe('pause when the timeout expires', async () => {
  let sandbox
  if (Sandbox.betaCreate) {
    sandbox = await Sandbox.betaCreate(TEMPLATE, { timeoutMs: 1000, autoPause: true })
  } else {
    declares('e2b', 'lifecycle')
    sandbox = await create({ timeoutMs: 1000, lifecycle: { onTimeout: 'pause' } })
  }
  await until(async () => (await sandbox.getInfo()).state === 'paused')
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('echo here')).stdout, 'here\n')
  await again.kill()
})

probe('resume by traffic (auto-resume)', async () => {
  declares('e2b', 'autoResume')
  const sandbox = await create({ lifecycle: { onTimeout: 'pause', autoResume: true } })
  await pause(sandbox)
  assert.equal((await sandbox.commands.run('echo here')).stdout, 'here\n')
  await sandbox.kill()
})

probe('idempotent create', async () => {
  declares('e2b', 'idempotencyKey')
  const idempotencyKey = crypto.randomUUID()
  const made = [await create({ idempotencyKey }), await create({ idempotencyKey })]
  await made[0].kill()
  assert.equal(made[0].sandboxId, made[1].sandboxId)
})

probe('environment variables', async () => {
  const sandbox = await create({ envs: { A: "1 'x'", B: '2' } })
  const done = await sandbox.commands.run('echo $A,$B,$C', { envs: { B: '3', C: '4' } })
  const after = await sandbox.commands.run('echo $A,$B,$C')
  await sandbox.kill()
  assert.deepEqual([done.stdout, after.stdout], ["1 'x',3,4\n", "1 'x',2,\n"])
})

probe('metrics', async (sandbox) => {
  need(sandbox, 'getMetrics')
  await until(async () => (await sandbox.getMetrics()).length > 0)
  assert.ok((await sandbox.getMetrics()).every((one) => one.memTotal > 0))
})

probe('commands in the foreground', async (sandbox) => {
  const seen = []
  const done = await sandbox.commands.run('echo out; echo err >&2', {
    onStdout: (text) => seen.push(text), onStderr: (text) => seen.push(text),
  })
  assert.deepEqual([done.stdout, done.stderr, done.exitCode, seen.sort()], ['out\n', 'err\n', 0, ['err\n', 'out\n']])
  await assert.rejects(() => sandbox.commands.run('exit 7'), (error) => error.exitCode === 7)
})

probe('user, cwd, timeout of a command', async (sandbox) => {
  const done = await sandbox.commands.run('whoami; pwd', { user: 'root', cwd: '/tmp' })
  assert.equal(done.stdout, 'root\n/tmp\n')
  await assert.rejects(() => sandbox.commands.run('sleep 20', { timeoutMs: 1000 }), e2b.TimeoutError)
})

probe('commands in the background: connect, list, kill', async (sandbox) => {
  const handle = await sandbox.commands.run('echo one; read x; echo $x', { background: true, stdin: true })
  assert.ok((await sandbox.commands.list()).some((one) => one.pid === handle.pid))
  const other = await sandbox.commands.connect(handle.pid)
  await sandbox.commands.sendStdin(handle.pid, 'two\n')
  assert.match((await other.wait()).stdout, /two\n/)
  assert.equal((await handle.wait()).stdout, 'one\ntwo\n')
  const sleeper = await sandbox.commands.run('sleep 60', { background: true })
  assert.equal(await sandbox.commands.kill(sleeper.pid), true)
  await assert.rejects(() => sleeper.wait(), e2b.CommandExitError)
})

probe('end of standard input (close_stdin)', async (sandbox) => {
  need(sandbox.commands, 'closeStdin')
  const handle = await sandbox.commands.run('cat', { background: true, stdin: true })
  await sandbox.commands.sendStdin(handle.pid, 'text')
  await sandbox.commands.closeStdin(handle.pid)
  assert.equal((await handle.wait()).stdout, 'text')
})

probe('standard input as a stream (stream_input)', async (sandbox) => need(sandbox.commands, 'streamInput'))

probe('terminal (PTY): input, resize, kill', async (sandbox) => {
  let screen = ''
  const decoder = new TextDecoder()
  const onData = (data) => { screen += decoder.decode(data) }
  const terminal = await sandbox.pty.create({ cols: 80, rows: 24, timeoutMs: 0, onData })
  await sandbox.pty.resize(terminal.pid, { cols: 132, rows: 24 })
  await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit\n'))
  await terminal.wait()
  assert.match(screen, /24 132/)
  const other = await sandbox.pty.create({ cols: 80, rows: 24, timeoutMs: 0, onData })
  assert.equal(await sandbox.pty.kill(other.pid), true)
  await other.wait().catch(() => {})
})

probe('files: write and read, text and bytes', async ({ files }) => {
  const bytes = Uint8Array.from({ length: 76_800 }, (_, index) => index % 256)
  await files.write('a/b/text', 'hällo')
  await files.write('bytes', bytes.buffer)
  await files.write('empty', '')
  assert.equal(await files.read('a/b/text'), 'hällo')
  assert.deepEqual(await files.read('bytes', { format: 'bytes' }), bytes)
  assert.equal(await files.read('empty'), '')
  await assert.rejects(() => files.read('missing'), e2b.NotFoundError)
})

probe('files: streams', async ({ files }) => {
  await files.write('stream', new Blob(['x'.repeat(1_000_000)]).stream())
  let size = 0
  for await (const part of await files.read('stream', { format: 'stream' })) size += part.length
  assert.equal(size, 1_000_000)
})

probe('files: several at once', async ({ files }) => {
  const made = await files.write([0, 1, 2].map((number) => ({ path: `many/${number}`, data: String(number) })))
  assert.deepEqual(made.map((one) => one.path), [0, 1, 2].map((number) => `/home/user/many/${number}`))
})

probe('files: list, info, exists, rename, remove, make_dir', async ({ files }) => {
  assert.equal(await files.makeDir('dir/sub'), true)
  assert.equal(await files.makeDir('dir/sub'), false)
  await files.write('dir/sub/file', '12345')
  const listed = (await files.list('dir', { depth: 2 })).map((one) => one.path)
  assert.deepEqual(listed, ['/home/user/dir/sub', '/home/user/dir/sub/file'])
  await files.rename('dir/sub/file', 'dir/moved')
  const info = await files.getInfo('dir/moved')
  assert.deepEqual([info.name, info.size, info.owner], ['moved', 5, 'user'])
  await files.remove('dir')
  assert.equal(await files.exists('dir'), false)
})

probe('files: watch a tree', async ({ files }) => {
  await files.makeDir('watched/deep')
  const seen = []
  const handle = await files.watchDir('watched', (event) => { seen.push(event) }, { recursive: true })
  await files.write('watched/deep/new', 'x')
  await until(() => seen.some((one) => one.name === 'deep/new' && one.type === e2b.FilesystemEventType.WRITE))
  await handle.stop()
})

probe('files: metadata of a file', async ({ files }) => {
  declares('e2b', 'FilesystemWriteOpts[\\s\\S]{0,1500}metadata')
  await files.write('labelled', 'x', { metadata: { kind: 'note' } })
  assert.deepEqual((await files.getInfo('labelled')).metadata, { kind: 'note' })
})

probe('files: signed URLs up and down, secure mode', async () => {
  const sandbox = await create({ secure: true })
  try {
    await sandbox.files.write('hidden', 'secret')
    const signing = { user: 'user', useSignatureExpiration: 600_000 }
    const url = await sandbox.downloadUrl('hidden', signing)
    assert.equal(await (await fetch(url)).text(), 'secret')
    assert.equal((await fetch(url.replace('v1_', 'v1_0'))).status, 401)
    const bare = `https://${sandbox.getHost(49983)}/files?path=hidden&username=user`
    assert.equal((await fetch(bare)).status, 401)
    const body = new FormData()
    body.append('file', new Blob(['posted']), 'up')
    assert.equal((await fetch(await sandbox.uploadUrl('up', signing), { method: 'POST', body })).status, 200)
    assert.equal(await sandbox.files.read('up'), 'posted')
  } finally {
    await sandbox.kill()
  }
})

probe('git', async (sandbox) => {
  need(sandbox, 'git')
  await sandbox.git.init('repo', { initialBranch: 'main' })
  await sandbox.git.configureUser('A', 'a@b.test')
  await sandbox.files.write('repo/file', 'x')
  await sandbox.git.add('repo')
  await sandbox.git.commit('repo', 'first')
  await sandbox.git.createBranch('repo', 'next')
  const status = await sandbox.git.status('repo')
  assert.deepEqual([status.isClean, status.currentBranch], [true, 'next'])
})

probe('https://{get_host(port)}', async (sandbox) => {
  await serve(sandbox, 8000)
  assert.match(await (await fetch(`https://${sandbox.getHost(8000)}/`)).text(), /Directory listing/)
})

probe('network: lists and internet switch at create', async () => {
  declares('e2b', 'network')
  const lists = { allowOut: ['198.51.100.0/24'], denyOut: ['0.0.0.0/0'] }
  for (const wanted of [{ network: lists }, { allowInternetAccess: false }]) {
    const sandbox = await create(wanted)
    assert.equal((await sandbox.commands.run('echo here')).stdout, 'here\n')
    await sandbox.kill()
  }
})

probe('network: update_network', async (sandbox) => {
  need(sandbox, 'updateNetwork')
  await sandbox.updateNetwork({ denyOut: ['203.0.113.7'] })
  assert.match(JSON.stringify((await sandbox.getInfo()).network), /203\.0\.113\.7/)
  await sandbox.updateNetwork({})
})

probe('network: private traffic token, masked host', async () => {
  declares('e2b', 'allowPublicTraffic')
  const sandbox = await create({ network: { allowPublicTraffic: false, maskRequestHost: 'inner.test:${PORT}' } })
  try {
    await serve(sandbox, 8000)
    const url = `https://${sandbox.getHost(8000)}/`
    assert.equal((await fetch(url)).status, 403)
    const headers = { 'e2b-traffic-access-token': sandbox.trafficAccessToken }
    assert.equal((await fetch(url, { headers })).status, 200)
  } finally {
    await sandbox.kill()
  }
})

probe('network: headers set by rules', async (shared) => {
  declares('e2b', 'rules')
  const rules = { 'api.probe.test': [{ transform: { headers: { 'X-Probe': 'set' } } }] }
  const sandbox = await create({ network: { rules } })
  try {
    assert.match(JSON.stringify((await sandbox.getInfo()).network), /api\.probe\.test/)
    const trusted = 'grep -c BEGIN /etc/ssl/certs/ca-certificates.crt' // one more: the host has another certificate now
    const count = async (one) => Number((await one.commands.run(trusted)).stdout)
    assert.equal((await count(sandbox)) - (await count(shared)), 1)
  } finally {
    await sandbox.kill()
  }
})

probe('network: ports that speak TLS', async () => {
  declares('e2b', 'httpsPorts')
  const sandbox = await create({ network: { httpsPorts: [8443] } })
  try {
    await sandbox.commands.run('openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=own -keyout k -out c')
    await serve(sandbox, 8443, 'openssl s_server -accept 8443 -key k -cert c -www')
    const answer = await fetch(`https://${sandbox.getHost(8443)}/`)
    assert.equal(answer.status, 200)
    assert.match(await answer.text(), /s_server/)
  } finally {
    await sandbox.kill()
  }
})

probe('network: a proxy for outbound traffic', async () => {
  declares('e2b', 'egressProxy')
  const sandbox = await create({ network: { egressProxy: { address: '198.51.100.7:1080' } } })
  await sandbox.kill()
})

probe('without a domain: E2B_API_URL and E2B_SANDBOX_URL', async () => {
  declares('e2b', 'sandboxUrl')
  const sandbox = await create({ apiUrl: process.env.COMPAT_API_URL, sandboxUrl: process.env.COMPAT_SANDBOX_URL })
  await sandbox.files.write('x', 'y')
  assert.equal((await sandbox.commands.run('cat x')).stdout, 'y')
  await sandbox.kill()
})

probe('templates: exists, tags', async () => {
  const exists = Template?.exists ?? Template?.aliasExists
  if (exists === undefined) throw new Absent('exists')
  assert.deepEqual([await exists(TEMPLATE), await exists('no-such-template')], [true, false])
  if (Template.assignTags === undefined) return
  const tag = `t${crypto.randomUUID().slice(0, 8)}`
  await Template.assignTags(TEMPLATE, tag)
  assert.ok((await Template.getTags(TEMPLATE)).some((one) => one.tag === tag))
  await (await Sandbox.create(`${TEMPLATE}:${tag}`, { timeoutMs: 300_000 })).kill()
  await Template.removeTags(TEMPLATE, tag)
})

probe('templates: build', async () => {
  need(Template, 'build')
  const options = { alias: `compat-${crypto.randomUUID().slice(0, 8)}`, cpuCount: 1, memoryMB: 512 }
  await Template.build(Template().fromImage('debian:12').runCmd('true'), options)
})

probe('fork', async (sandbox) => {
  need(sandbox, 'fork')
  for (const one of await sandbox.fork()) await one.kill()
})

probe('snapshots', async (sandbox) => {
  need(sandbox, 'createSnapshot')
  await sandbox.createSnapshot()
})

probe('volumes', async () => {
  need(e2b, 'Volume')
  await e2b.Volume.create(`compat-${crypto.randomUUID().slice(0, 8)}`)
})

const shared = await create({ timeoutMs: 900_000 })
await main(shared, () => shared.kill())
