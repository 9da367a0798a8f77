// An app that is a page, with the official client for browsers. What it can do is in
// window.app.
import { BrowserOAuthClient } from '@atproto/oauth-client-browser'
import { life } from './oauth_life.mjs'

let client, session

window.app = {
  async start(options) {
    client = await BrowserOAuthClient.load(options)
    const found = await client.init(false)
    session = found?.session
    return { did: session?.did, state: found?.state }
  },
  authorize: async (input, options) => String(await client.authorize(input, options)),
  life: (text) => life(session, text),
  refresh: async () => (session = await client.restore(session.did, true)).getTokenInfo(false),
  signOut: () => session.signOut(),
}
