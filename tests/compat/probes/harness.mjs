// What the JavaScript probes share: see harness.py. A probe throws Absent when the release has no such feature.
import { readFileSync } from 'node:fs'

export const TEMPLATE = 'code-interpreter'
const probes = new Map()

export class Absent extends Error {}

/** Register the probe of a feature, a row of the table. */
export const probe = (feature, run) => probes.set(feature, run)

/** Throw Absent unless the object has these members. */
export function need(owner, ...names) {
  for (const name of names) if (owner?.[name] === undefined) throw new Absent(name)
}

/** Throw Absent unless the release's type declarations know this option: unknown ones would be ignored in silence. */
export function declares(release, option) {
  const text = readFileSync(new URL(`./node_modules/${release}/dist/index.d.ts`, import.meta.url), 'utf8')
  if (!new RegExp(`\\b${option}\\??:`).test(text)) throw new Absent(option)
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** Wait until check() is true. */
export async function until(check, seconds = 90) {
  const end = Date.now() + seconds * 1000
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not within ${seconds} s`)
    await sleep(100)
  }
}

function outcome(error) {
  if (error === undefined) return 'ok'
  if (error instanceof Absent) return 'absent'
  const text = String(error?.message ?? error).split('\n').slice(0, 12).join(' ').replace(/\s+/g, ' ')
  const later = /501: [a-z ]+ are not supported by this server yet/.exec(text)
  if (later) return later[0]
  return `${error?.name === 'Error' ? '' : `${error?.name}: `}${text.replace(/\bi[a-z0-9]{20}\b/g, 'ID')}`.slice(0, 240)
}

/** Run every probe in turn with the shared kit. */
export async function main(kit, close) {
  const only = process.argv[2] ?? ''
  for (const [feature, run] of probes) {
    if (!feature.includes(only)) continue
    console.log(JSON.stringify({ mode: 'js', feature }))
    const start = Date.now()
    let error
    try {
      await run(kit)
    } catch (thrown) {
      error = thrown
      if (only) console.error(thrown)
    }
    console.log(JSON.stringify({ mode: 'js', feature, outcome: outcome(error), seconds: (Date.now() - start) / 1000 }))
  }
  await close()
  process.exit(0)
}
