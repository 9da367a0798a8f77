// Moving away, with the official client: an account of Portico goes to the reference
// PDS, as an application that migrates accounts does it. What is to be seen on the
// way is checked on both sides and in the directory.
//
//   node leave.mjs PORTICO REFERENCE DIRECTORY MAILBOX ADMIN-PASSWORD
//
// The mails of Portico are asked for at MAILBOX.
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import { administrator, bearer, mailbox, refused, story } from '../interop/story.mjs'

const [here, there, directory, mailboxURL, adminPassword] = process.argv.slice(2)
const { mail, noMoreMails } = mailbox(mailboxURL)
const email = 'ada@example.com'
const password = 'the analytical engine'
const newPassword = 'weaves algebraic patterns'
const before = 'ada.test'
const after = 'ada.there.test'
const year = 365 * 24 * 3600 * 1000

/** The methods of a server, as whoever is signed in there calls them. */
function at(service) {
  const agent = new AtpAgent({ service })
  return { agent, ...agent.com.atproto }
}
const from = at(here)
const to = at(there)

let did
await story('an account here', async () => {
  did = (await from.agent.createAccount({ handle: before, email, password })).data.did
  await names(before, here)
  await status(from, { activated: true, validDid: true })
})

let access // at the new server
await story('another of the same DID there', async () => {
  const aud = (await to.server.describeServer()).data.did
  const lxm = 'com.atproto.server.createAccount'
  const account = { did, handle: after, email, password: newPassword }
  const pass = async (claims) => bearer((await from.server.getServiceAuth(claims)).data.token)
  // The new server takes the old one's word, if it is for it and for this.
  await refused(() => to.server.createAccount(account), 401, 'AuthenticationRequired')
  const wrong = [{ aud: 'did:web:else.example.com', lxm }, { aud, lxm: 'com.atproto.repo.uploadBlob' }]
  for (const claims of wrong) {
    const token = await pass(claims)
    await refused(() => to.server.createAccount(account, token), 401)
  }
  const { data } = await to.server.createAccount(account, await pass({ aud, lxm }))
  assert.deepEqual([data.did, data.handle], [did, after])
  access = data.accessJwt
  await to.agent.login({ identifier: after, password: newPassword })
  assert.equal(to.agent.session.active, false)
  await status(to, { activated: false, validDid: false })
  await refused(() => to.server.activateAccount(), 400, 'InvalidRequest', "Server rotation key not included in PLC DID data")
  await status(from, { activated: true, validDid: true })
})

await story('the repository', async () => {
  const { data } = await from.sync.getRepo({ did })
  await to.repo.importRepo(data, { encoding: 'application/vnd.ipld.car' })
  const [left, arrived] = [(await from.server.checkAccountStatus()).data, (await to.server.checkAccountStatus()).data]
  for (const what of ['repoBlocks', 'indexedRecords', 'expectedBlobs', 'importedBlobs']) {
    assert.equal(arrived[what], left[what], what)
  }
  assert.deepEqual((await to.repo.listMissingBlobs()).data.blobs, [])
})

let operation
await story('the old server signs what the new one recommends', async () => {
  const recommended = (await to.identity.getRecommendedDidCredentials()).data
  assert.deepEqual(recommended.alsoKnownAs, ['at://' + after])
  assert.equal(recommended.services.atproto_pds.endpoint, there)

  await refused(() => from.identity.signPlcOperation(recommended), 400, 'InvalidRequest', 'email confirmation token required to sign PLC operations')
  await from.identity.requestPlcOperationSignature()
  const { code } = await mail(email, 'PLC Update Operation Requested')
  await refused(() => from.identity.signPlcOperation({ ...recommended, token: 'AAAAA-AAAAA' }), 400, 'InvalidToken', 'Token is invalid')
  operation = (await from.identity.signPlcOperation({ ...recommended, token: code })).data.operation
  for (const [field, value] of Object.entries(recommended)) {
    assert.deepEqual(operation[field], value, field)
  }
  await refused(() => from.identity.signPlcOperation({ ...recommended, token: code }), 400, 'InvalidToken', 'Token is invalid')
  // Signed is not yet done, and the old server does not do it.
  await refused(() => from.identity.submitPlcOperation({ operation }), 400, 'InvalidRequest', "Rotation keys do not include server's rotation key")
  await names(before, here)
})

await story('the new one submits it', async () => {
  await to.identity.submitPlcOperation({ operation })
  await names(after, there)
  const log = await (await fetch(`${directory}/${did}/log`)).json()
  assert.deepEqual(log.at(-1), operation)
  assert.equal(log.length, 2)
  await status(to, { activated: false, validDid: true })
  await status(from, { activated: true, validDid: false })
})

let deleteAfter
await story('there it is switched on, here off', async () => {
  await to.server.activateAccount()
  deleteAfter = new Date(Date.now() + year).toISOString()
  await from.server.deactivateAccount({ deleteAfter })
  await status(to, { activated: true, validDid: true })
  await status(from, { activated: false, validDid: false })
  const session = (await from.server.getSession()).data
  assert.deepEqual([session.did, session.active, session.status], [did, false, 'deactivated'])
})

await story('what is left here', async () => {
  // No way leads back without the directory.
  await refused(() => from.server.activateAccount(), 400, 'InvalidRequest', 'Server rotation key not included in PLC DID data')
  await refused(() => from.identity.updateHandle({ handle: 'augusta.test' }), 400, 'InvalidRequest')
  await refused(() => from.identity.resolveHandle({ handle: before }), 400, 'HandleNotFound', 'Unable to resolve handle')
  const login = (await at(here).agent.login({ identifier: before, password })).data
  assert.deepEqual([login.did, login.active, login.status], [did, false, 'deactivated'])

  const admin = administrator(adminPassword)
  const info = (await from.admin.getAccountInfo({ did }, admin)).data
  assert.equal(info.handle, before)
  assert.ok(Date.now() - Date.parse(info.deactivatedAt) < 60_000, info.deactivatedAt)
  const asked = await fetch(`${here}/xrpc/alt.portico.operator.getAccount?account=${did}`, admin)
  assert.equal(asked.status, 200)
  assert.equal((await asked.json()).deleteAfter, deleteAfter)
})

await story('life there', async () => {
  assert.equal((await to.identity.resolveHandle({ handle: after })).data.did, did)
  const ada = at(there)
  await ada.agent.login({ identifier: after, password: newPassword })
  assert.deepEqual([ada.agent.session.did, ada.agent.session.active], [did, true])
  // The repository that came from here is one that the new server writes on.
  const record = { $type: 'app.bsky.feed.post', text: 'moved', createdAt: new Date().toISOString() }
  await ada.agent.com.atproto.repo.createRecord({ repo: did, collection: 'app.bsky.feed.post', record })
  const { records } = (await ada.agent.com.atproto.repo.listRecords({ repo: did, collection: 'app.bsky.feed.post' })).data
  assert.deepEqual(records.map(({ value }) => value.text), ['moved'])
  await refused(() => at(there).agent.login({ identifier: after, password }), 401, 'AuthenticationRequired')
})

await noMoreMails()

/** Expects that the directory names this handle and this server. */
async function names(handle, service) {
  const { alsoKnownAs, service: services } = await (await fetch(`${directory}/${did}`)).json()
  assert.deepEqual([alsoKnownAs, services.map(({ serviceEndpoint }) => serviceEndpoint)], [['at://' + handle], [service]])
}

/** Expects some of what a server says of the account. */
async function status(server, want) {
  const { data } = await server.server.checkAccountStatus()
  for (const [what, value] of Object.entries(want)) {
    assert.equal(data[what], value, what)
  }
}
