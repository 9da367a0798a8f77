// Moving house, with the official client: an account with 1,000 records and 50 blobs
// goes from one server to another, and any of the two may be killed and come back at any
// time. Requests are also cut off, sent twice, and sent late.
//
//   node move.mjs FROM TO DIRECTORY MAILBOX BEFORE AFTER
//
// The mails of FROM are asked for at MAILBOX; BEFORE and AFTER are the account's handles.
// Before each step its name is written, and at the end, as JSON, what has moved.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { AtpAgent } from '@atproto/api'
import { bearer, mailbox, story } from '../interop/story.mjs'

const [here, there, directory, mailboxURL, before, after] = process.argv.slice(2)
const { mail } = mailbox(mailboxURL)
const email = before.replaceAll('.', '-') + '@example.com'
const password = 'the analytical engine'
const newPassword = 'weaves algebraic patterns'
const post = 'app.bsky.feed.post'
const pictures = 50
const records = 1000

/** The methods of a server, as whoever is signed in there calls them. */
function at(service) {
  const agent = new AtpAgent({ service })
  return { service, agent, ...agent.com.atproto }
}
const from = at(here)
const to = at(there)

/** Announces a step, and does it until the servers let it come to its end. */
async function step(name, act) {
  await story(name, async () => {
    console.log('step ' + name)
    await persist(act)
  })
}

/** Calls act(again) anew as long as there is no answer. */
async function persist(act) {
  for (let tries = 0; ; tries++) {
    try {
      return await act(tries > 0)
    } catch (err) {
      if (err.status >= 400 || err instanceof assert.AssertionError || tries > 400) throw err
      await sleep(50)
    }
  }
}

/** Signs in to what may be being finished after a crash. */
async function login(server, identifier, secret) {
  for (let tries = 0; ; tries++) {
    try {
      return await persist(() => server.agent.login({ identifier, password: secret }))
    } catch (err) {
      if (err.status !== 401 || tries > 100) throw err
      await sleep(100)
    }
  }
}

/** Sends a body whose end does not come. */
function cutOff(server, method, type, body) {
  return new Promise((resolve) => {
    const request = http.request(`${server.service}/xrpc/${method}`, {
      method: 'POST',
      headers: {
        authorization: 'Bearer ' + server.agent.session.accessJwt,
        'content-type': type,
        'content-length': body.length,
      },
    })
    request.on('error', resolve)
    request.on('response', (response) => response.resume().on('close', resolve))
    request.write(body.subarray(0, body.length / 2), () => setTimeout(() => request.destroy(), 20))
    request.on('close', resolve)
  })
}

/** Bytes that are the same each time. */
function picture(n) {
  const bytes = Buffer.alloc(2000 + n * 371)
  for (let at = 0; at < bytes.length; at += 32) {
    createHash('sha256').update(`${before} ${n} ${at}`).digest().copy(bytes, at)
  }
  return bytes
}

let did
await step('an account', async (again) => {
  try {
    did = (await from.agent.createAccount({ handle: before, email, password })).data.did
  } catch (err) {
    if (!again || !(err.status >= 400)) throw err
    did = (await login(from, before, password)).data.did
  }
})

const blobs = []
await step('pictures', async () => {
  while (blobs.length < pictures) {
    const { data } = await from.repo.uploadBlob(picture(blobs.length), { encoding: 'image/png' })
    blobs.push(data.blob)
  }
})

const createdAt = '2026-01-01T00:00:00.000Z'
for (let first = 0; first < records; first += 100) {
  await step('records', async (again) => {
    const rkey = (n) => `3k${String(n).padStart(10, '0').replaceAll(/\d/g, (digit) => 'abcdefghij'[digit])}2`
    const writes = []
    for (let n = first; n < first + 100; n++) {
      const value = { $type: post, text: `post ${n}`, createdAt }
      if (n % (records / pictures) === 0) {
        value.embed = { $type: 'app.bsky.embed.images', images: [{ alt: '', image: blobs[n / (records / pictures)] }] }
      }
      writes.push({ $type: 'com.atproto.repo.applyWrites#create', collection: post, rkey: rkey(n), value })
    }
    if (again) {
      const there = await from.repo.getRecord({ repo: did, collection: post, rkey: writes[0].rkey }).catch((err) => err)
      if (there.success && !(there instanceof Error)) return
    }
    await from.repo.applyWrites({ repo: did, writes })
  })
}

const lxm = 'com.atproto.server.createAccount'
const account = { handle: after, email, password: newPassword }
let pass
await step('the word of the old server', async () => {
  const aud = (await to.server.describeServer()).data.did
  pass = bearer((await from.server.getServiceAuth({ aud, lxm })).data.token)
})

await step('another account of the DID', async (again) => {
  try {
    await to.server.createAccount({ did, ...account }, pass)
  } catch (err) {
    if (!again || !(err.status >= 400)) throw err
  }
})
await step('once more', async () => {
  await assert.rejects(
    to.server.createAccount({ did, ...account }, pass),
    (err) => { if (!(err.status >= 400)) throw err; return err.status === 400 },
  ).catch((err) => { throw err.actual ?? err })
})
await login(to, after, newPassword)

let car
await step('the repository, fetched', async () => {
  const asked = await fetch(`${here}/xrpc/com.atproto.sync.getRepo?did=${did}`)
  await asked.body.cancel() // cut off
  car = Buffer.from((await from.sync.getRepo({ did })).data)
})

const archive = 'application/vnd.ipld.car'
const importIt = () => to.repo.importRepo(car, { encoding: archive })
await step('the repository, cut off', () => cutOff(to, 'com.atproto.repo.importRepo', archive, car))
await step('the repository, sent', importIt)
await step('the repository, sent again', importIt)
await step('two at a time', () => Promise.all([importIt(), importIt()]))

async function missing() {
  const cids = []
  let cursor
  do {
    const { data } = await to.repo.listMissingBlobs({ cursor, limit: 20 })
    cids.push(...data.blobs.map(({ cid }) => cid))
    cursor = data.cursor
  } while (cursor)
  return cids
}
async function carry(cid) {
  const { data, headers } = await from.sync.getBlob({ did, cid })
  await to.repo.uploadBlob(data, { encoding: headers['content-type'] })
}
await step('what is missing', async () => assert.equal((await missing()).length, pictures))
await step('a blob, cut off', () => cutOff(to, 'com.atproto.repo.uploadBlob', 'image/png', picture(0)))
await step('half of the blobs', async () => {
  for (const cid of (await missing()).slice(0, -pictures / 2)) await carry(cid)
})
await step('the repository, late', importIt)
await step('the other blobs', async () => {
  for (const cid of await missing()) await carry(cid)
})
await step('nothing is missing', async () => {
  assert.deepEqual(await missing(), [])
  const [left, arrived] = [(await from.server.checkAccountStatus()).data, (await to.server.checkAccountStatus()).data]
  for (const what of ['indexedRecords', 'expectedBlobs', 'importedBlobs']) {
    assert.equal(arrived[what], left[what], what)
  }
  assert.deepEqual([arrived.indexedRecords, arrived.expectedBlobs, arrived.importedBlobs], [records, pictures, pictures])
  assert.equal(arrived.activated, false)
})
await step('a blob, late', () => carry(blobs[7].ref.toString()))

let operation
await step('the operation', async () => {
  const recommended = (await to.identity.getRecommendedDidCredentials()).data
  await from.identity.requestPlcOperationSignature()
  for (let code = ''; ; ) {
    code = (await mail(email, 'PLC Update Operation Requested')).code
    try {
      operation = (await from.identity.signPlcOperation({ ...recommended, token: code })).data.operation
      return
    } catch (err) {
      if (err.error !== 'InvalidToken' && err.error !== 'ExpiredToken') throw err // an older letter
    }
  }
})
await step('the operation, submitted', async (again) => {
  try {
    await to.identity.submitPlcOperation({ operation })
  } catch (err) {
    if (!again || !(err.status >= 400)) throw err
  }
  const log = await (await fetch(`${directory}/${did}/log`)).json()
  assert.deepEqual(log.at(-1), operation)
})
await step('activation', () => to.server.activateAccount())
await step('activation again', () => to.server.activateAccount())
await step('farewell', () => from.server.deactivateAccount({}))
await step('farewell again', () => from.server.deactivateAccount({}))

await step('life there', async () => {
  const { data } = await to.server.checkAccountStatus()
  assert.deepEqual([data.activated, data.validDid, data.indexedRecords], [true, true, records])
  await login(to, after, newPassword)
  assert.equal(to.agent.session.active, true)
  // The repository that came from elsewhere is one that the new server writes on.
  const record = { $type: post, text: 'moved', createdAt }
  const { data: { uri } } = await to.repo.createRecord({ repo: did, collection: post, record })
  await to.repo.deleteRecord({ repo: did, collection: post, rkey: uri.split('/').at(-1) })
})

console.log(JSON.stringify({ did, car: car.toString('base64'), blobs: blobs.map(({ ref }) => ref.toString()) }))
