// What an app does for somebody who has let it in, with the official client: everything
// goes through the session that OAuth gave it. It returns what it saw, and throws at what
// is not as it should be. Node and browsers run it.
import { Agent } from '@atproto/api'

const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 1, 2, 3])

export async function life(session, text) {
  const agent = new Agent(session)
  const me = (await agent.com.atproto.server.getSession()).data
  is(me.did, session.did, 'the DID of getSession')
  const blob = (await agent.com.atproto.repo.uploadBlob(png, { encoding: 'image/png' })).data.blob
  is(blob.mimeType, 'image/png', 'the type of the blob')
  const made = (
    await agent.com.atproto.repo.createRecord({
      repo: session.did,
      collection: 'app.bsky.feed.post',
      record: {
        $type: 'app.bsky.feed.post',
        text,
        createdAt: new Date().toISOString(),
        embed: { $type: 'app.bsky.embed.images', images: [{ image: blob, alt: 'a picture' }] },
      },
    })
  ).data
  const rkey = made.uri.split('/').pop()
  const read = (await agent.com.atproto.repo.getRecord({ repo: session.did, collection: 'app.bsky.feed.post', rkey })).data
  is(read.cid, made.cid, 'the CID of the record')
  is(read.value.text, text, 'the text of the record')
  const proxied = await session.fetchHandler('/xrpc/app.bsky.feed.searchPosts?q=cats', { method: 'GET' })
  const answered = await proxied.text()
  is(proxied.status, 200, 'the status of the call that is passed on, with ' + answered)
  return { did: session.did, handle: me.handle, email: me.email ?? '', uri: made.uri, proxied: JSON.parse(answered) }
}

function is(got, want, what) {
  if (got !== want) throw new Error(`${what} is ${JSON.stringify(got)}, not ${JSON.stringify(want)}`)
}
