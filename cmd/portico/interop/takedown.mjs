// A takedown as its owner, the operator and the network see it, with the official
// client, until it is lifted.
//
//   node takedown.mjs SERVER DIRECTORY MAILBOX ADMIN-PASSWORD
import assert from 'node:assert/strict'
import http from 'node:http'
import { AtpAgent } from '@atproto/api'
import { administrator, bearer, loggedOut, mailbox, refused, story } from './story.mjs'

const [service, directory, mailboxURL, adminPassword] = process.argv.slice(2)
const admin = administrator(adminPassword)
const { mail, noMoreMails } = mailbox(mailboxURL)
const handle = 'george.test'
const email = 'george@example.com'
const password = 'mad bad and dangerous'
const otherServer = 'did:web:elsewhere.example.com'
const createAccount = 'com.atproto.server.createAccount'

/** An agent that remembers what it was told to keep. */
function newAgent() {
  const events = []
  const agent = new AtpAgent({ service, persistSession: (event) => events.push(event) })
  return { agent, events, server: agent.com.atproto.server, identity: agent.com.atproto.identity }
}
const anybody = newAgent()
const operator = anybody.agent.com.atproto.admin

const george = newAgent()
const tablet = newAgent()
const app = newAgent()
let did, subject, appPassword, invite
await story('sign up, and sign in twice more', async () => {
  const { code } = (await anybody.server.createInviteCode({ useCount: 1 }, admin)).data
  did = (await george.agent.createAccount({ handle, email, password, inviteCode: code })).data.did
  subject = { $type: 'com.atproto.admin.defs#repoRef', did }
  invite = (await anybody.server.createInviteCode({ useCount: 1, forAccount: did }, admin)).data.code
  appPassword = (await george.server.createAppPassword({ name: 'phone' })).data.password
  await tablet.agent.login({ identifier: email, password })
  await app.agent.login({ identifier: handle, password: appPassword })
  await found(did)
  await status({ takedown: { applied: false }, deactivated: { applied: false } })
})

// What he holds at the moment of the takedown.
const { accessJwt: access } = george.agent.session
const { accessJwt: appAccess } = app.agent.session

await story('taken down by the operator', async () => {
  const takedown = { applied: true, ref: 'case 1816' }
  await refused(() => operator.updateSubjectStatus({ subject, takedown }), 401, 'AuthenticationRequired')
  await refused(() => operator.updateSubjectStatus({ subject, takedown }, bearer(access)), 401)
  const { data } = await operator.updateSubjectStatus({ subject, takedown }, admin)
  assert.deepEqual(data, { subject, takedown })
  await status({ takedown, deactivated: { applied: false } })
  const info = (await operator.getAccountInfo({ did }, admin)).data
  assert.deepEqual([info.did, info.handle, info.email], [did, handle, email])
})

await story('nobody signs in', async () => {
  const login = (options) => newAgent().agent.login({ identifier: handle, password, ...options })
  await refused(() => login(), 401, 'AccountTakedown', 'Account has been taken down')
  await refused(() => login({ identifier: email }), 401, 'AccountTakedown')
  await refused(() => login({ password: 'wrong ' + password }), 401, 'AuthenticationRequired', 'Invalid identifier or password')
  await refused(() => login({ password: 'wrong ' + password, allowTakendown: true }), 401, 'AuthenticationRequired')
  for (const allowTakendown of [undefined, true]) {
    await refused(() => login({ password: appPassword, allowTakendown }), 401, 'AuthenticationRequired', 'Invalid identifier or password')
  }
})

await story('nobody takes his place', async () => {
  const inviteCode = (await anybody.server.createInviteCode({ useCount: 1 }, admin)).data.code
  const signUp = (one) => newAgent().agent.createAccount({ handle: 'thief.test', email: 'thief@example.com', password, inviteCode, ...one })
  await refused(() => signUp({ handle }), 400, 'HandleNotAvailable', 'Handle already taken: ' + handle)
  await refused(() => signUp({ email }), 400, 'InvalidRequest', 'Email already taken: ' + email)
  await refused(() => signUp({ inviteCode: invite }), 400, 'InvalidInviteCode', 'Provided invite code not available')
})

await story('sessions end', async () => {
  await loggedOut(tablet, () => tablet.agent.sessionManager.refreshSession(), 401, 'AccountTakedown')
  await loggedOut(app, () => app.agent.sessionManager.refreshSession(), 401, 'AccountTakedown')
  // To do something is to be asked to refresh, and so to be signed out.
  await loggedOut(george, () => george.server.createAppPassword({ name: 'watch' }), 401, 'AccountTakedown')
})

await story('what the access token of before is worth', async () => {
  for (const token of [access, appAccess]) {
    await refused(() => anybody.server.getSession({}, bearer(token)), 400, 'InvalidRequest', 'Could not find user info for account: ' + did)
    await refused(() => anybody.server.listAppPasswords({}, bearer(token)), 401, 'AccountTakedown', 'Account has been taken down')
    await refused(() => anybody.server.requestEmailConfirmation(undefined, bearer(token)), 401, 'AccountTakedown')
    await refused(() => anybody.server.revokeAppPassword({ name: 'phone' }, bearer(token)), 401, 'AccountTakedown')
    await refused(() => anybody.identity.updateHandle({ handle: 'gordon.test' }, bearer(token)), 401, 'AccountTakedown')
    const { activated, validDid } = (await anybody.server.checkAccountStatus({}, bearer(token))).data
    assert.deepEqual([activated, validDid], [false, true])
    const recommended = (await anybody.identity.getRecommendedDidCredentials({}, bearer(token))).data
    assert.equal(recommended.alsoKnownAs, undefined)
  }
  await refused(() => anybody.server.requestAccountDelete(undefined, bearer(access)), 401, 'AccountTakedown')
  await refused(() => anybody.server.getAccountInviteCodes({}, bearer(access)), 401, 'AccountTakedown')
})

await story('the network does not find him', async () => {
  await found(undefined)
  // What the directory says is not the server's to take away.
  const { alsoKnownAs } = await (await fetch(`${directory}/${did}`)).json()
  assert.deepEqual(alsoKnownAs, ['at://' + handle])
})

const leaving = newAgent()
await story('sign in, to leave', async () => {
  const { data } = await leaving.agent.login({ identifier: handle, password, allowTakendown: true })
  assert.deepEqual([data.did, data.handle, data.active, data.status], [did, handle, false, 'takendown'])
  assert.deepEqual([leaving.agent.session.active, leaving.agent.session.status], [false, 'takendown'])
  assert.equal(JSON.parse(atob(data.accessJwt.split('.')[1])).scope, 'com.atproto.takendown')
})
const { accessJwt: narrow, refreshJwt: narrowRefresh } = leaving.agent.session

await story('what such a session may do', async () => {
  const { token } = (await leaving.server.getServiceAuth({ aud: otherServer, lxm: createAccount })).data
  const claims = JSON.parse(atob(token.split('.')[1]))
  assert.deepEqual([claims.iss, claims.aud, claims.lxm], [did, otherServer, createAccount])

  await leaving.identity.requestPlcOperationSignature()
  const { code } = await mail(email, 'PLC Update Operation Requested')
  await refused(() => leaving.identity.signPlcOperation({ token: 'AAAAA-AAAAA' }, bearer(narrow)), 400, 'InvalidToken', 'Token is invalid')
  const services = { atproto_pds: { type: 'AtprotoPersonalDataServer', endpoint: 'https://elsewhere.example.com' } }
  const { operation } = (await leaving.identity.signPlcOperation({ token: code, services })).data
  assert.deepEqual([operation.type, operation.services, operation.alsoKnownAs], ['plc_operation', services, ['at://' + handle]])
})

await story('what it may not', async () => {
  const { server, identity } = anybody
  const own = bearer(narrow)
  for (const call of [
    () => server.getSession({}, own),
    () => server.checkAccountStatus({}, own),
    () => server.listAppPasswords({}, own),
    () => server.createAppPassword({ name: 'watch' }, own),
    () => server.requestEmailUpdate(undefined, own),
    () => server.requestAccountDelete(undefined, own),
    () => server.activateAccount(undefined, own),
    () => server.getServiceAuth({ aud: otherServer, lxm: 'com.atproto.repo.uploadBlob' }, own),
    () => server.getServiceAuth({ aud: otherServer }, own),
    () => identity.getRecommendedDidCredentials({}, own),
    () => identity.updateHandle({ handle: 'gordon.test' }, own),
    () => identity.submitPlcOperation({ operation: {} }, own),
  ]) {
    await refused(call, 400, 'InvalidToken', 'Bad token scope')
  }
  await refused(() => operator.getSubjectStatus({ did }, own), 401)
  await loggedOut(leaving, () => leaving.agent.sessionManager.refreshSession(), 401, 'AccountTakedown')
})

await story('he goes to sleep', async () => {
  await anybody.server.deactivateAccount({}, bearer(narrow))
  await status({ takedown: { applied: true, ref: 'case 1816' }, deactivated: { applied: true } })
  await refused(
    () => operator.updateSubjectStatus({ subject, takedown: { applied: true }, deactivated: { applied: false } }, admin),
    400, 'InvalidRequest', 'Cannot activate and takedown an account at the same time')
})

await story('restored', async () => {
  const takedown = { applied: false }
  assert.deepEqual((await operator.updateSubjectStatus({ subject, takedown }, admin)).data, { subject, takedown })
  await status({ takedown, deactivated: { applied: true } })
  // What was ended stays ended, and what was narrow stays so.
  await refused(() => anybody.server.refreshSession(undefined, bearer(narrowRefresh)), 400, 'ExpiredToken', 'Token has been revoked')
  await refused(() => anybody.server.getSession({}, bearer(narrow)), 400, 'InvalidToken', 'Bad token scope')
})

await story('sign in again', async () => {
  const { data } = await george.agent.login({ identifier: handle, password })
  assert.deepEqual([data.did, data.active, data.status], [did, false, 'deactivated'])
  await george.server.activateAccount()
  const session = (await george.server.getSession()).data
  assert.deepEqual([session.did, session.handle, session.email, session.active, session.status], [did, handle, email, true, undefined])
  await george.agent.sessionManager.refreshSession()
  assert.equal(george.agent.session.active, true)
  await app.agent.login({ identifier: handle, password: appPassword })
  await found(did)
  await status({ takedown: { applied: false }, deactivated: { applied: false } })
})

await story('all is as before', async () => {
  const { data } = await george.server.checkAccountStatus()
  assert.deepEqual([data.activated, data.validDid, data.repoBlocks], [true, true, 2])
  assert.deepEqual((await george.server.listAppPasswords()).data.passwords.map(({ name }) => name), ['phone'])
  const claire = await newAgent().agent.createAccount({ handle: 'claire.test', email: 'claire@example.com', password, inviteCode: invite })
  assert.equal(claire.data.handle, 'claire.test')
})

await noMoreMails()

/** Expects that the handle leads to this DID, or to none. */
async function found(want) {
  if (want) {
    assert.equal((await anybody.identity.resolveHandle({ handle })).data.did, want)
  } else {
    await refused(() => anybody.identity.resolveHandle({ handle }), 400, 'HandleNotFound', 'Unable to resolve handle')
  }
  const { code, body } = await wellKnown()
  assert.deepEqual([code, body], want ? [200, want] : [404, 'User not found'])
}

/** What the handle's host serves, which is this server. */
function wellKnown() {
  return new Promise((resolve, reject) => {
    http
      .get(service + '/.well-known/atproto-did', { headers: { host: handle } }, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (text) => (body += text))
        response.on('end', () => resolve({ code: response.statusCode, body }))
      })
      .on('error', reject)
  })
}

/** Expects what the operator is told of the account. */
async function status(want) {
  assert.deepEqual((await operator.getSubjectStatus({ did }, admin)).data, { subject, ...want })
}
