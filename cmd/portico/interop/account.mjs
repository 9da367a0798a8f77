// The life of an account on a server that asks for invites and sends mail, with
// the official client: from the invite to the deletion. Mails are asked for at
// MAILBOX/next?to=ADDRESS, which answers each once, when it is there.
//
//   node account.mjs SERVER DIRECTORY MAILBOX ADMIN-PASSWORD
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import { administrator, bearer, loggedOut, mailbox, refused, story } from './story.mjs'

const [service, directory, mailboxURL, adminPassword] = process.argv.slice(2)
const admin = administrator(adminPassword)
const { mail, noMoreMails } = mailbox(mailboxURL)
const handle = 'mary.test'
const email = 'mary@example.com'
const newEmail = 'mary.shelley@example.org'
const password = 'the modern prometheus'
const newPassword = 'the last man of 2100'

/** An agent that remembers what it was told to keep. */
function newAgent() {
  const events = []
  const agent = new AtpAgent({ service, persistSession: (event) => events.push(event) })
  return { agent, events, server: agent.com.atproto.server }
}
const anybody = newAgent()

await story('sign up with an invite', async () => {
  const described = await anybody.server.describeServer()
  assert.equal(described.data.inviteCodeRequired, true)
  assert.deepEqual(described.data.availableUserDomains, ['.test'])

  await refused(() => anybody.server.createInviteCode({ useCount: 1 }), 401, 'AuthenticationRequired')
  const invite = (await anybody.server.createInviteCode({ useCount: 1 }, admin)).data.code
  assert.match(invite, /^localhost-[a-z2-7]{5}-[a-z2-7]{5}$/)

  const signUp = (inviteCode) => newAgent().agent.createAccount({ handle, email, password, inviteCode })
  await refused(() => signUp(undefined), 400, 'InvalidInviteCode', 'No invite code provided')
  await refused(() => signUp('localhost-aaaaa-aaaaa'), 400, 'InvalidInviteCode', 'Provided invite code not available')
  const created = await signUp(invite)
  assert.equal(created.data.handle, handle)
  await refused(
    () => newAgent().agent.createAccount({ handle: 'percy.test', email: 'percy@example.com', password, inviteCode: invite }),
    400, 'InvalidInviteCode', 'Provided invite code not available')
})

const mary = newAgent()
await mary.agent.login({ identifier: handle, password })
const { did } = mary.agent
assert.match(did, /^did:plc:[a-z2-7]{24}$/)
const { data: atFirst } = await mary.server.getSession()
assert.deepEqual(
  { ...atFirst, didDoc: atFirst.didDoc.id },
  { did, handle, email, emailConfirmed: false, active: true, didDoc: did },
)
assert.equal(mary.agent.pdsUrl.origin, service, 'the client goes where the DID document says')

await story('confirm the email address', async () => {
  await mary.server.requestEmailConfirmation()
  const { code } = await mail(email, 'Email Confirmation')
  await refused(() => mary.server.confirmEmail({ email: newEmail, token: code }), 400, 'InvalidEmail')
  await refused(() => mary.server.confirmEmail({ email, token: 'AAAAA-AAAAA' }), 400, 'InvalidToken', 'Token is invalid')
  await mary.server.confirmEmail({ email, token: code })
  await refused(() => mary.server.confirmEmail({ email, token: code }), 400, 'InvalidToken', 'Token is invalid')
  assert.equal((await mary.server.getSession()).data.emailConfirmed, true)
})

await story('change the email address', async () => {
  assert.equal((await mary.server.requestEmailUpdate()).data.tokenRequired, true)
  const { code } = await mail(email, 'Email Update Requested')
  await refused(() => mary.server.updateEmail({ email: newEmail }), 400, 'TokenRequired', 'confirmation token required')
  await refused(() => mary.server.updateEmail({ email: newEmail, token: 'AAAAA-AAAAA' }), 400, 'InvalidToken', 'Token is invalid')
  await mary.server.updateEmail({ email: newEmail, token: code })
  await mail(email, 'Your Email Address Was Changed')

  const { data } = await mary.server.getSession()
  assert.equal(data.email, newEmail)
  assert.equal(data.emailConfirmed, false)
  assert.equal((await mary.server.requestEmailUpdate()).data.tokenRequired, false)
})

await story('turn on the emailed code', async () => {
  await refused(() => mary.server.updateEmail({ email: newEmail, emailAuthFactor: true }), 400, 'InvalidRequest',
    'Confirm your email address before you turn on sign-in by emailed code')
  await mary.server.requestEmailConfirmation()
  const { code } = await mail(newEmail, 'Email Confirmation')
  await mary.server.confirmEmail({ email: newEmail, token: code })

  await mary.server.updateEmail({ email: newEmail, emailAuthFactor: true })
  await mail(newEmail, 'Sign-in Codes Turned On')
  const { data } = await mary.server.getSession()
  assert.equal(data.emailAuthFactor, true)
  assert.equal(data.emailConfirmed, true)
  await mary.agent.sessionManager.refreshSession()
  assert.equal(mary.agent.session.emailAuthFactor, true)
})

const laptop = newAgent()
await story('log in with the code', async () => {
  const logIn = (authFactorToken) => laptop.agent.login({ identifier: newEmail, password, authFactorToken })
  await refused(() => laptop.agent.login({ identifier: handle, password: newPassword }), 401, 'AuthenticationRequired')
  await refused(() => logIn(), 401, 'AuthFactorTokenRequired')
  const { code } = await mail(newEmail, 'Sign-in Code')
  await refused(() => logIn('AAAAA-AAAAA'), 400, 'InvalidToken', 'Token is invalid')
  // As people type it.
  const { data } = await logIn(` ${code.toLowerCase()} `)
  assert.equal(data.did, did)
  assert.equal(data.emailAuthFactor, true)
  await refused(() => newAgent().agent.login({ identifier: handle, password, authFactorToken: code }), 400, 'InvalidToken')
})

const phone = newAgent()
const chat = newAgent()
let phonePassword, chatPassword
await story('use app passwords', async () => {
  const plain = (await mary.server.createAppPassword({ name: 'phone' })).data
  const privileged = (await mary.server.createAppPassword({ name: 'chat', privileged: true })).data
  assert.deepEqual([plain.name, plain.privileged, privileged.name, privileged.privileged], ['phone', false, 'chat', true])
  phonePassword = plain.password
  chatPassword = privileged.password
  assert.match(phonePassword, /^[a-z2-7]{4}(-[a-z2-7]{4}){3}$/)
  await refused(() => mary.server.createAppPassword({ name: 'phone' }), 400, 'InvalidRequest')

  // No code is asked for.
  await phone.agent.login({ identifier: handle, password: phonePassword })
  await chat.agent.login({ identifier: did, password: chatPassword })
  const { data } = await phone.server.listAppPasswords()
  assert.deepEqual(data.passwords.map(({ name }) => name), ['chat', 'phone'])

  const aud = 'did:web:chat.example.com'
  const lxm = 'chat.bsky.convo.getLog'
  await refused(() => phone.server.getServiceAuth({ aud, lxm }), 400, 'InvalidRequest')
  const token = (await chat.server.getServiceAuth({ aud, lxm })).data.token
  const claims = JSON.parse(atob(token.split('.')[1]))
  assert.equal(claims.iss, did)
  assert.equal(claims.aud, aud)
  assert.equal(claims.lxm, lxm)
  for (const { server } of [phone, chat]) {
    await refused(() => server.createAppPassword({ name: 'another' }), 400, 'InvalidToken', 'Bad token scope')
    await refused(() => server.requestAccountDelete(), 400, 'InvalidToken', 'Bad token scope')
    await refused(() => server.deactivateAccount({}), 400, 'InvalidToken', 'Bad token scope')
  }
})

await story('revoke an app password', async () => {
  await mary.server.revokeAppPassword({ name: 'phone' })
  assert.deepEqual((await mary.server.listAppPasswords()).data.passwords.map(({ name }) => name), ['chat'])
  await refused(() => newAgent().agent.login({ identifier: handle, password: phonePassword }), 401, 'AuthenticationRequired')
  await loggedOut(phone, () => phone.agent.sessionManager.refreshSession())
  await chat.agent.sessionManager.refreshSession()
})

await story('reset the password: all sessions are gone', async () => {
  // Nothing tells whether an address is known.
  await anybody.server.requestPasswordReset({ email: 'nobody@example.com' })
  await anybody.server.requestPasswordReset({ email: newEmail.toUpperCase() })
  const { code, text } = await mail(newEmail, 'Password Reset Requested')
  assert.ok(text.includes('@' + handle), text)
  await refused(() => anybody.server.resetPassword({ token: code, password: 'short' }), 400, 'InvalidPassword')
  await refused(() => anybody.server.resetPassword({ token: 'AAAAA-AAAAA', password: newPassword }), 400, 'InvalidToken', 'Token is invalid')
  await anybody.server.resetPassword({ token: code, password: newPassword })
  await mail(newEmail, 'Your Password Was Changed')
  await refused(() => anybody.server.resetPassword({ token: code, password: newPassword }), 400, 'InvalidToken', 'Token is invalid')

  for (const one of [mary, laptop, chat]) {
    const { accessJwt } = one.agent.session
    await refused(() => anybody.server.getSession({}, bearer(accessJwt)), 400, 'ExpiredToken')
    await loggedOut(one, () => one.server.getSession())
  }
  await refused(() => newAgent().agent.login({ identifier: handle, password }), 401, 'AuthenticationRequired')
})

await story('log in again, with a code', async () => {
  const logIn = (authFactorToken) => mary.agent.login({ identifier: did, password: newPassword, authFactorToken })
  await refused(() => logIn(), 401, 'AuthFactorTokenRequired')
  const { code } = await mail(newEmail, 'Sign-in Code')
  await logIn(code)
  assert.equal((await mary.server.getSession()).data.email, newEmail)
  // The reset ended app passwords too.
  await refused(() => newAgent().agent.login({ identifier: handle, password: chatPassword }), 401, 'AuthenticationRequired')
  chatPassword = (await mary.server.createAppPassword({ name: 'chat', privileged: true })).data.password
  await chat.agent.login({ identifier: handle, password: chatPassword })
  assert.equal(chat.agent.session.active, true)
})

await story('deactivate', async () => {
  await mary.server.deactivateAccount({})
  for (const one of [mary, chat]) {
    const { data } = await one.server.getSession()
    assert.equal(data.active, false)
    assert.equal(data.status, 'deactivated')
    await one.agent.sessionManager.refreshSession()
    assert.equal(one.agent.session.status, 'deactivated')
  }
  const { data } = await mary.server.checkAccountStatus()
  assert.equal(data.activated, false)
  assert.equal(data.validDid, true)
  await chat.agent.login({ identifier: handle, password: chatPassword })
  assert.equal(chat.agent.session.active, false)
  const invite = (await anybody.server.createInviteCode({ useCount: 1 }, admin)).data.code
  await refused(
    () => newAgent().agent.createAccount({ handle, email: 'thief@example.com', password, inviteCode: invite }),
    400, 'HandleNotAvailable', 'Handle already taken: ' + handle)
})

await story('activate again', async () => {
  await mary.server.activateAccount()
  const { data } = await mary.server.checkAccountStatus()
  assert.equal(data.activated, true)
  assert.equal(data.validDid, true)
  assert.equal(data.repoBlocks, 2)
  const session = (await mary.server.getSession()).data
  assert.equal(session.active, true)
  assert.equal(session.status, undefined)
})

await story('delete', async () => {
  await mary.server.requestAccountDelete()
  const { code: token } = await mail(newEmail, 'Account Deletion Requested')
  await refused(() => anybody.server.deleteAccount({ did, password, token }), 401, 'AuthenticationRequired', 'Invalid did or password')
  await refused(() => anybody.server.deleteAccount({ did, password: chatPassword, token }), 401, 'AuthenticationRequired')
  await refused(() => anybody.server.deleteAccount({ did, password: newPassword, token: 'AAAAA-AAAAA' }), 400, 'InvalidToken', 'Token is invalid')
  await mary.server.deleteAccount({ did, password: newPassword, token })
  await refused(() => anybody.server.deleteAccount({ did, password: newPassword, token }), 400, 'InvalidRequest', 'account not found')

  const { accessJwt, refreshJwt } = mary.agent.session
  await refused(() => anybody.server.requestAccountDelete(undefined, bearer(accessJwt)), 403, 'AccountNotFound', 'Account not found')
  await refused(() => anybody.server.refreshSession(undefined, bearer(refreshJwt)), 400)
  for (const [identifier, secret] of [[handle, newPassword], [newEmail, newPassword], [did, newPassword], [handle, chatPassword]]) {
    await refused(() => newAgent().agent.login({ identifier, password: secret }), 401, 'AuthenticationRequired', 'Invalid identifier or password')
  }
})

await story('the handle is free again, the DID is not', async () => {
  const invite = (await anybody.server.createInviteCode({ useCount: 2 }, admin)).data.code
  await refused(
    () => anybody.server.createAccount({ handle, email: newEmail, password, did, inviteCode: invite }),
    401, 'AuthenticationRequired', 'Missing auth to create account with did: ' + did)

  const heir = newAgent()
  const created = await heir.agent.createAccount({ handle, email: newEmail, password, inviteCode: invite })
  assert.equal(created.data.handle, handle)
  assert.notEqual(created.data.did, did)
  const { data } = await heir.server.getSession()
  assert.deepEqual([data.emailConfirmed, data.emailAuthFactor, data.active], [false, undefined, true])
  assert.deepEqual((await heir.server.listAppPasswords()).data.passwords, [])
  await refused(() => newAgent().agent.login({ identifier: handle, password: chatPassword }), 401, 'AuthenticationRequired')

  // It stands in the directory, as its owner left it.
  for (const one of [did, created.data.did]) {
    const resolved = await fetch(`${directory}/${one}`)
    assert.equal(resolved.status, 200)
    const document = await resolved.json()
    assert.deepEqual([document.id, document.alsoKnownAs, document.service[0].serviceEndpoint], [one, ['at://' + handle], service])
  }
})

await noMoreMails()
