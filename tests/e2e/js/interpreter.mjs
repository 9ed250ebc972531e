// The JavaScript code interpreter SDK, unmodified, with its own default template. Fails by assertion.
import assert from 'node:assert/strict'
import { Sandbox } from '@e2b/code-interpreter'

const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
try {
  assert.equal((await sandbox.runCode('x = 1\nx + 1')).text, '2')
  assert.equal((await sandbox.runCode('x')).text, '1')
  const printed = []
  await sandbox.runCode('print("a")', { onStdout: (message) => printed.push(message.line) })
  assert.deepEqual(printed, ['a\n'])
  assert.equal((await sandbox.runCode('1/0')).error?.name, 'ZeroDivisionError')
  const context = await sandbox.createCodeContext({ language: 'python', cwd: '/tmp' })
  assert.equal((await sandbox.runCode('import os; os.getcwd()', { context })).text, '/tmp')
} finally {
  await sandbox.kill()
}
console.log('ok')
