// What all stories have in common. It stands on no package.
import assert from 'node:assert/strict'

/** Says which part of the story an error is in. */
export async function story(part, tell) {
  try {
    await tell()
  } catch (cause) {
    throw new Error(part, { cause })
  }
}

/**
 * The mails of a story, for which URL/next?to=ADDRESS is asked: it answers each
 * once, when it is there.
 */
export function mailbox(url) {
  return {
    /** The next mail to an address, which must have this subject. */
    async mail(to, subject) {
      const response = await fetch(`${url}/next?to=${encodeURIComponent(to)}`)
      assert.equal(response.status, 200, `${subject} to ${to}: ${response.statusText}`)
      const got = await response.json()
      assert.equal(got.subject, subject)
      return got
    },
    /** Expects that every mail that came was waited for. */
    async noMoreMails() {
      const unread = await (await fetch(url + '/unread')).json()
      assert.deepEqual(unread, [], 'mails that nobody waited for')
    },
  }
}

export function bearer(token) {
  return { headers: { authorization: 'Bearer ' + token } }
}

export function administrator(password) {
  return { headers: { authorization: 'Basic ' + btoa('admin:' + password) } }
}

/** Expects that a call is refused and that the client gives its session up for it. */
export async function loggedOut(one, call, status = 400, name = 'ExpiredToken') {
  await refused(call, status, name)
  assert.equal(one.agent.session, undefined)
  assert.equal(one.events.at(-1), 'expired')
}

/** Expects that the server refuses with this status, and this name and message if given. */
export async function refused(call, status, name, message) {
  await assert.rejects(call, (err) => {
    assert.equal(err.status, status, `${err.error ?? err.name}: ${err.message}`)
    if (name) assert.equal(err.error, name)
    if (message) assert.equal(err.message, message)
    return true
  })
}
