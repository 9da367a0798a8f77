// What an application does with an account server, with the official client:
// sign up, look, come back later, refresh, log out, log in. Everything is
// checked; the account is printed as JSON at the end.
//
//   node client.mjs SERVER HANDLE EMAIL PASSWORD
import assert from 'node:assert/strict'
import { AtpAgent, XRPCError } from '@atproto/api'

const [service, handle, email, password] = process.argv.slice(2)

/** An agent that remembers what it was told to keep. */
function newAgent() {
  const kept = { events: [], session: undefined }
  const agent = new AtpAgent({
    service,
    persistSession: (event, session) => {
      kept.events.push(event)
      kept.session = session
    },
  })
  return { agent, kept }
}

const first = newAgent()

const described = await first.agent.com.atproto.server.describeServer()
assert.equal(described.data.inviteCodeRequired, false)
assert.ok(described.data.availableUserDomains.some((domain) => handle.endsWith(domain)))

const created = await first.agent.createAccount({ handle, email, password })
const { did } = created.data
assert.match(did, /^did:plc:[a-z2-7]{24}$/)
assert.equal(created.data.handle, handle)
assert.equal(created.data.didDoc?.id, did, 'the DID document comes with the answer')
assert.deepEqual(first.kept.events, ['create'])
assert.equal(first.agent.did, did)
assert.equal(new URL(first.agent.pdsUrl).host, new URL(created.data.didDoc.service[0].serviceEndpoint).host)

// From here on the client talks to the place that the DID document names. On
// a development server that is the same one; on one that is only reachable
// under another name here it would be far away.
const sameServer = new URL(first.agent.pdsUrl).port === new URL(service).port
assert.ok(sameServer, `the DID document names ${first.agent.pdsUrl}`)

const session = await first.agent.com.atproto.server.getSession()
assert.equal(session.data.did, did)
assert.equal(session.data.handle, handle)
assert.equal(session.data.email, email)
assert.equal(session.data.emailConfirmed, false)
assert.equal(session.data.active, true)

// Coming back: another process, with what the first one kept.
const second = newAgent()
await second.agent.resumeSession(first.kept.session)
assert.equal(second.agent.did, did)
assert.equal(second.agent.session.handle, handle)

// Refreshing: both tokens change, the session stays the same person's.
const before = { ...second.agent.session }
await second.agent.sessionManager.refreshSession()
assert.notEqual(second.agent.session.refreshJwt, before.refreshJwt)
assert.equal(second.agent.session.did, did)
assert.equal(second.agent.session.active, true)
assert.equal(second.kept.events.at(-1), 'update')
assert.equal((await second.agent.com.atproto.server.getSession()).data.did, did)

// Out: the refresh token is of no use any more.
const over = second.agent.session.refreshJwt
await second.agent.logout()
assert.equal(second.agent.session, undefined)
await refused(
  () =>
    first.agent.com.atproto.server.refreshSession(undefined, {
      headers: { authorization: `Bearer ${over}` },
    }),
  400,
  'ExpiredToken',
)

// In: with the handle, the email address and the DID, in any case of letters.
for (const identifier of [handle, handle.toUpperCase(), email, did]) {
  const { agent } = newAgent()
  const login = await agent.login({ identifier, password })
  assert.equal(login.data.did, did)
  assert.equal(login.data.email, email)
  assert.equal(agent.session.active, true)
  await agent.logout()
}
await refused(() => newAgent().agent.login({ identifier: handle, password: 'wrong ' + password }), 401, 'AuthenticationRequired')

// Nobody else gets the handle or the address.
const another = { handle: 'x' + handle, email: 'x' + email, password }
await refused(() => newAgent().agent.createAccount({ ...another, handle }), 400)
await refused(() => newAgent().agent.createAccount({ ...another, email }), 400, 'InvalidRequest')

console.log(JSON.stringify({ did, handle, email, password }))

/** Expects that the server refuses with this status, and this name if given. */
async function refused(call, status, name) {
  await assert.rejects(call, (err) => {
    assert.ok(err instanceof XRPCError, String(err))
    assert.equal(err.status, status)
    if (name) assert.equal(err.error, name)
    return true
  })
}
