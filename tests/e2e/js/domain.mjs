// A domain of one's own from Node: SDK, user port by get_host, and clients that offer HTTP/2. Fails by assertion.
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'
import { Agent, fetch as undiciFetch } from 'undici'

const sandbox = await Sandbox.create('code-interpreter', { timeoutMs: 60_000 })
try {
  assert.equal((await sandbox.commands.run('echo hello')).stdout, 'hello\n')
  const serve = 'mkdir -p /tmp/www && echo served > /tmp/www/x && exec python3 -m http.server 8000 -d /tmp/www'
  await sandbox.commands.run(serve, { background: true, timeoutMs: 0 })
  await sandbox.commands.run('until curl -s localhost:8000/x; do sleep 0.05; done')
  const url = `https://${sandbox.getHost(8000)}/x`
  assert.equal(await (await fetch(url)).text(), 'served\n')
  const dispatcher = new Agent({ allowH2: true })
  const answer = await undiciFetch(url, { dispatcher })
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), 'served\n')
  await dispatcher.close()
} finally {
  await sandbox.kill()
}
console.log('ok')
