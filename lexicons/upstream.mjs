// Brings the documents of upstream to what npm's @atproto/api carries, and says so in
// UPSTREAM: all of com.atproto, and of others the methods and the types of records below,
// with what these refer to. Of all subscriptions it brings the names to impl/proxy, which
// does not pass them on. Usage: node upstream.mjs VERSION
//
// The package has the documents as JavaScript literals, with every ref in its long form
// ("lex:com.example.x#y"). A document that says what the file here says is left alone,
// so that a change upstream is a change of the lines that changed.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'

// The records that a server checks, besides those of com.atproto; cmd/lexgen/config.go has
// the same list.
const records = [
  'app.bsky.actor.profile', 'app.bsky.actor.status', 'app.bsky.feed.generator', 'app.bsky.feed.like', 'app.bsky.feed.post',
  'app.bsky.feed.postgate', 'app.bsky.feed.repost', 'app.bsky.feed.threadgate', 'app.bsky.graph.block', 'app.bsky.graph.follow',
  'app.bsky.graph.list', 'app.bsky.graph.listblock', 'app.bsky.graph.listitem', 'app.bsky.graph.starterpack',
  'app.bsky.graph.verification', 'app.bsky.labeler.service', 'app.bsky.notification.declaration', 'chat.bsky.actor.declaration',
  'com.germnetwork.declaration',
]
// The methods of app views that a server has a part in; cmd/lexgen/config.go has the same list.
const methods = [
  'app.bsky.actor.getPreferences', 'app.bsky.actor.getProfile', 'app.bsky.actor.getProfiles', 'app.bsky.actor.putPreferences',
  'app.bsky.feed.getActorLikes', 'app.bsky.feed.getAuthorFeed', 'app.bsky.feed.getFeed', 'app.bsky.feed.getPostThread',
  'app.bsky.feed.getTimeline', 'app.bsky.notification.registerPush', 'app.bsky.notification.unregisterPush',
]
const folders = ['com/atproto', 'app/bsky', 'chat/bsky', 'com/germnetwork']

const version = process.argv[2]
const here = import.meta.dirname
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'lexicons-'))
try {
  execFileSync('npm', ['pack', '--silent', `@atproto/api@${version}`], { cwd: temporary, stdio: ['ignore', 'ignore', 'inherit'] })
  const [archive] = fs.readdirSync(temporary)
  execFileSync('tar', ['-xzf', archive], { cwd: temporary })
  const source = fs.readFileSync(path.join(temporary, 'package/dist/client/lexicons.js'), 'utf8')
  const begin = source.indexOf('schemaDict = ') + 'schemaDict = '.length
  const end = source.indexOf('\n};', begin) + 2
  const all = new Map(Object.values((0, eval)(`(${source.slice(begin, end)})`)).map((d) => [d.id, d]))
  const wanted = new Set([...all.keys()].filter((id) => id.startsWith('com.atproto.')))
  for (const id of [...records, ...methods]) wanted.add(id)
  for (const id of wanted) { // those that are added on the way, too
    if (!all.has(id)) throw new Error(`the package has no ${id}`)
    for (const ref of refs(all.get(id))) wanted.add(ref)
  }
  const documents = [...all.values()].filter((d) => wanted.has(d.id))
  if (documents.length < 120) throw new Error(`only ${documents.length} documents found: has the package another form now?`)

  const stale = new Set()
  for (const folder of folders) {
    if (!fs.existsSync(path.join(here, folder))) continue
    const present = fs.readdirSync(path.join(here, folder), { recursive: true })
    for (const name of present.filter((name) => name.endsWith('.json'))) stale.add(path.join(folder, name))
  }
  for (const document of documents) {
    const name = `${document.id.replaceAll('.', '/')}.json`
    const file = path.join(here, name)
    stale.delete(path.normalize(name))
    shorten(document, document.id)
    if (fs.existsSync(file) && isDeepStrictEqual(JSON.parse(fs.readFileSync(file, 'utf8')), document)) continue
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, print(document) + '\n')
  }
  for (const name of stale) fs.rmSync(path.join(here, name))
  const streams = [...all.values()].filter((d) => d.defs.main?.type === 'subscription').map((d) => d.id)
  fs.writeFileSync(path.join(here, '../impl/proxy/streams.txt'), streams.sort().join('\n') + '\n')
  // Lines of lexicons that were pulled one by one stay, unless the package has them.
  const upstream = path.join(here, 'UPSTREAM')
  const pulled = fs.readFileSync(upstream, 'utf8').split('\n').filter((line) => / at:\/\//.test(line) && !wanted.has(line.split(' ')[0]))
  fs.writeFileSync(upstream, [`npm @atproto/api ${version}`, ...pulled].join('\n') + '\n')
} finally {
  fs.rmSync(temporary, { recursive: true })
}

/** The documents that the one in value refers to. */
function refs(value) {
  if (value === null || typeof value !== 'object') return []
  const own = value.type === 'ref' ? [value.ref] : value.type === 'union' ? value.refs : []
  return [...own.map((ref) => ref.replace(/^lex:/, '').split('#')[0]).filter(Boolean), ...Object.values(value).flatMap(refs)]
}

/** Gives every ref below value the form that it has in the documents of upstream. */
function shorten(value, id) {
  if (value === null || typeof value !== 'object') return
  const short = (ref) => {
    const long = ref.replace(/^lex:/, '')
    return long.startsWith(`${id}#`) ? long.slice(id.length) : long.replace(/#main$/, '')
  }
  if (value.type === 'ref') value.ref = short(value.ref)
  if (value.type === 'union') value.refs = value.refs.map(short)
  for (const member of Object.values(value)) shorten(member, id)
}

/** Writes JSON much as upstream does: two spaces; short lists and schemas on one line. */
function print(value, indent = '', before = 0) {
  const line = JSON.stringify(value)
  if (value === null || typeof value !== 'object' || line.length === 2) return line
  const deeper = indent + '  '
  const flat = (v) => Object.values(v).every((member) => typeof member !== 'object')
  const fits = (text) => indent.length + before + text.length < 80
  if (Array.isArray(value)) {
    const list = `[${value.map((v) => JSON.stringify(v)).join(', ')}]`
    if (flat(value) && fits(list)) return list
    return `[\n${value.map((v) => deeper + print(v, deeper)).join(',\n')}\n${indent}]`
  }
  const schema = `{ ${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${JSON.stringify(v)}`).join(', ')} }`
  if (flat(value) && !value.description && fits(schema)) return schema
  const members = Object.entries(value).map(([k, v]) => `${deeper}${JSON.stringify(k)}: ${print(v, deeper, k.length + 4)}`)
  return `{\n${members.join(',\n')}\n${indent}}`
}
