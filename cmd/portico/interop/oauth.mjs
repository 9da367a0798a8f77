// An app on a server of its own that lets people sign in by OAuth, with the official client
// for Node. It is told what to do on its standard input, a JSON object a line, and answers
// each with a line of its standard output.
//
//   node oauth.mjs '{"metadata": the client's, "directory": URL, "kids": names of its keys}'
import { createInterface } from 'node:readline'
import { AtprotoHandleResolver } from '@atproto-labs/handle-resolver'
import { JoseKey, NodeOAuthClient } from '@atproto/oauth-client-node'
import { EnvHttpProxyAgent, setGlobalDispatcher } from 'undici'
import { life } from './oauth_life.mjs'

// The client brings an undici of its own, which does not look for a proxy by itself.
setGlobalDispatcher(new EnvHttpProxyAgent())

const { metadata, directory, kids } = JSON.parse(process.argv[2])

const memory = () => {
  const all = new Map()
  return { get: async (key) => all.get(key), set: async (key, value) => void all.set(key, value), del: async (key) => void all.delete(key), all }
}
const states = memory()
const sessions = memory()
const keys = new Map()
let client

/** The app with the keys of those names, made where they are not there yet. */
async function start(kids) {
  for (const kid of kids) if (!keys.has(kid)) keys.set(kid, await JoseKey.generate(['ES256'], kid))
  let locked = Promise.resolve()
  client = new NodeOAuthClient({
    clientMetadata: metadata,
    keyset: kids.length ? kids.map((kid) => keys.get(kid)) : undefined,
    stateStore: states,
    sessionStore: sessions,
    plcDirectoryUrl: directory,
    allowHttp: true,
    requestLock: (_name, fn) => (locked = locked.then(fn, fn)),
    // Its own resolver of handles wants public addresses.
    handleResolver: new AtprotoHandleResolver({ fetch: globalThis.fetch, resolveTxt: async () => null, onError: (err) => console.error(err) }),
  })
  return { jwks: client.jwks }
}

const commands = {
  keys: ({ kids }) => start(kids),
  authorize: async ({ input, options }) => ({ url: String(await client.authorize(input, options)) }),
  callback: async ({ query }) => {
    const { session, state } = await client.callback(new URLSearchParams(query))
    return { did: session.did, state, ...(await session.getTokenInfo(false)) }
  },
  life: async ({ did, text }) => life(await client.restore(did, false), text),
  refresh: async ({ did }) => (await client.restore(did, true)).getTokenInfo(false),
  signOut: async ({ did }) => (await client.restore(did, false)).signOut(),
  // The tokens that it keeps.
  kept: async ({ did }) => ({ ...sessions.all.get(did).tokenSet }),
}

await start(kids)
for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const { command, ...rest } = JSON.parse(line)
    answer = { ...(await commands[command](rest)) }
  } catch (err) {
    answer = { failed: `${err?.name}: ${err?.message}`, cause: String(err?.cause ?? ''), error: err?.params?.get?.('error') ?? err?.error ?? '' }
  }
  console.log(JSON.stringify(answer))
}
