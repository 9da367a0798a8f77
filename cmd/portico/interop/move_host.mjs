// What the official client does on a server that moves to another name: everything in one
// step, for apps are closed and opened again. SESSION is a file with what the app keeps.
//
//   node move_host.mjs ADDRESS SESSION sign-in|sign-up SERVICE HANDLE
//   node move_host.mjs ADDRESS SESSION go-on SERVICE HANDLE ENDPOINT
//
// Host names lead to ADDRESS. go-on expects the handle that the account has by now, and
// the server that its DID names. Prints the DID, and the audience of the access token.
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import https from 'node:https'
import { AtpAgent } from '@atproto/api'

const [address, file, step, service, handle, endpoint] = process.argv.slice(2)
const password = 'correct horse battery'
const [host, port] = address.split(':')

/** fetch, for names that nobody else knows. */
async function lookedUp(input, init) {
  const request = new Request(input, init)
  const url = new URL(request.url)
  assert.equal(url.protocol, 'https:')
  const body = Buffer.from(await request.arrayBuffer())
  const headers = { ...Object.fromEntries(request.headers), host: url.host, 'content-length': body.length }
  const path = url.pathname + url.search
  return new Promise((resolve, reject) => {
    const asked = https.request({ host, port, servername: url.hostname, method: request.method, path, headers }, async (answer) => {
      const chunks = []
      for await (const chunk of answer) chunks.push(chunk)
      resolve(new Response(Buffer.concat(chunks), { status: answer.statusCode, headers: answer.headers }))
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

let kept
const agent = new AtpAgent({ service, fetch: lookedUp, persistSession: (_, session) => (kept = session) })
switch (step) {
  case 'sign-in':
    await agent.login({ identifier: handle, password })
    break
  case 'sign-up':
    await agent.createAccount({ handle, password, email: `${handle}@example.com` })
    break
  case 'go-on': {
    await agent.resumeSession(JSON.parse(await readFile(file, 'utf8')))
    await agent.sessionManager.refreshSession()
    const { data } = await agent.com.atproto.server.getSession()
    assert.equal(data.handle, handle)
    assert.equal(data.active, true)
    assert.equal(agent.pdsUrl.origin, endpoint)
    break
  }
}
const written = await agent.post({ text: `after ${step} at ${service}`, createdAt: new Date().toISOString() })
const listed = await agent.com.atproto.repo.listRecords({ repo: agent.did, collection: 'app.bsky.feed.post' })
assert.ok(listed.data.records.some((record) => record.uri === written.uri))
await writeFile(file, JSON.stringify(kept))
const { aud } = JSON.parse(Buffer.from(kept.accessJwt.split('.')[1], 'base64url').toString())
process.stdout.write(JSON.stringify({ did: agent.did, aud, access: kept.accessJwt }))
