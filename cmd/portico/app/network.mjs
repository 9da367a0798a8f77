// What stands around an account server where people use Bluesky's app, each part the
// real program or, where none is to be had, one that looks hard at what it is sent:
//
//   node network.mjs '{"pds":PORT,"plc":PORT,"appView":PORT,"services":PORT,"bsync":PORT,"dataPlane":PORT}' POSTGRES
//
// The pds is somebody else's. services answers once all the others do; GET / says which
// DIDs there are.
import http from 'node:http'
import { createRequire } from 'node:module'
import * as bsky from '@atproto/bsky'
import { BsyncService, envToCfg } from '@atproto/bsync'
import { Secp256k1Keypair } from '@atproto/crypto'
import { verifyJwt } from '@atproto/xrpc-server'

// These are CommonJS and have no map of their exports.
const require = createRequire(import.meta.url)
const { Database, PlcServer } = require('@did-plc/server')
const plc = require('@did-plc/lib')

const at = JSON.parse(process.argv[2])
const postgres = process.argv[3]
const local = (port) => `http://localhost:${port}`

const directory = new plc.Client(local(at.plc))
await PlcServer.create({ db: Database.mock(), port: at.plc }).start()

/** A new DID with this key and these services. */
async function identity(services, key) {
  const operation = await plc.signOperation({
    type: 'plc_operation',
    rotationKeys: [key.did()],
    verificationMethods: { atproto: key.did() },
    alsoKnownAs: [],
    services,
    prev: null,
  }, key)
  const did = await plc.didForCreateOp(operation)
  await directory.sendOperation(did, operation)
  return did
}

const one = async (id, type, port) => identity({ [id]: { type, endpoint: local(port) } }, await Secp256k1Keypair.create())
const moderation = await one('atproto_labeler', 'AtprotoLabeler', at.services)
const generator = await one('bsky_fg', 'BskyFeedGenerator', at.services)

// The app view, and its store of what is not in repositories (mutes, what was seen).
const signing = await Secp256k1Keypair.create()
const appView = await identity({
  bsky_appview: { type: 'BskyAppView', endpoint: local(at.appView) },
  bsky_notif: { type: 'BskyNotificationService', endpoint: local(at.appView) },
}, signing)

const store = await BsyncService.create(envToCfg({ port: at.bsync, apiKeys: ['key'], dbUrl: postgres, dbSchema: 'bsync', dbPoolSize: 5 }))
await store.ctx.db.migrateToLatestOrThrow()
await store.start()

const database = () => new bsky.Database({ url: postgres, schema: 'appview', poolSize: 20 })
const migrations = database() // which change settings of their connection
await migrations.migrateToLatestOrThrow()
await migrations.close()
const db = database()
const data = await bsky.DataPlaneServer.create(db, at.dataPlane, local(at.plc), fetch)
const config = new bsky.ServerConfig({
  version: 'app',
  port: at.appView,
  publicUrl: local(at.appView),
  didPlcUrl: local(at.plc),
  serverDid: appView,
  modServiceDid: moderation,
  labelsFromIssuerDids: [moderation],
  adminPasswords: ['operator of the app view'],
  alternateAudienceDids: [],
  dataplaneUrls: [local(at.dataPlane)],
  dataplaneHttpVersion: '1.1',
  bsyncUrl: local(at.bsync),
  bsyncApiKey: 'key',
  bsyncHttpVersion: '1.1',
  etcdHosts: [],
  disableSsrfProtection: true,
  feedGenSkeletonTimeout: 10_000,
  maxThreadParents: 50,
  draftsLimit: 10,
  bigThreadUris: new Set(),
  debugFieldAllowedDids: new Set(),
  searchTagsHide: new Set(),
  searchTagsHideAll: new Set(),
  threadTagsBumpDown: new Set(),
  threadTagsHide: new Set(),
  visibilityTagHide: '',
  visibilityTagRankPrefix: '',
})
const view = bsky.BskyAppView.create({ config, signingKey: signing })
await view.start()
store.ctx.dataplaneClients = [view.ctx.dataplane] // which are told what has been seen
new bsky.BsyncSubscription({ config, db }).start()

// No DNS knows names under .test: the server is asked, as the host of each.
const resolveHandle = (handle) =>
  new Promise((resolve) => {
    http.get(local(at.pds) + '/.well-known/atproto-did', { headers: { host: handle } }, async (response) => {
      let body = ''
      for await (const chunk of response.setEncoding('utf8')) body += chunk
      resolve(response.statusCode === 200 ? body.trim() : undefined)
    }).on('error', () => resolve(undefined))
  })
for (const { handle } of [view.ctx.idResolver, data.idResolver]) handle.resolve = resolveHandle

/** The app view's ear at the firehose, while it listens. */
let ear

const reports = []
const asked = [] // of the feed generator
let feed = []

const keyOf = async (did) => (await directory.getDocumentData(did)).verificationMethods.atproto

/** What the services answer, by path. Whatever throws is 401: tokens are looked at first. */
const paths = {
  '/': () => ({ appView, moderation, generator }),
  // What a story turns.
  '/listen': () => {
    ear ??= new bsky.RepoSubscription({ service: `ws://localhost:${at.pds}`, db, idResolver: data.idResolver })
    ear.start()
  },
  '/deaf': async () => {
    await ear.destroy()
    ear = undefined
  },
  '/feed': ({ body }) => void (feed = body),
  '/asked': () => asked,
  '/reports': () => reports,

  '/xrpc/com.atproto.moderation.createReport': async ({ token, body, headers }) => {
    const { iss } = await verifyJwt(token, moderation, 'com.atproto.moderation.createReport', keyOf)
    const { reasonType, reason, subject, modTool } = body
    reports.push({ reasonType, reason, subject, modTool, reportedBy: iss, headers })
    return { id: reports.length, reasonType, reason, subject, reportedBy: iss, createdAt: new Date().toISOString() }
  },
  '/xrpc/app.bsky.feed.describeFeedGenerator': () => ({ did: generator, feeds: [] }),
  '/xrpc/app.bsky.feed.getFeedSkeleton': async ({ token, query, headers }) => {
    const { iss } = await verifyJwt(token, generator, 'app.bsky.feed.getFeedSkeleton', keyOf)
    asked.push({ by: iss, feed: query.get('feed'), headers })
    return { feed: feed.map((post) => ({ post })) }
  },
}

http.createServer(async (request, response) => {
  const { pathname, searchParams: query } = new URL(request.url, local(at.services))
  const answer = (status, value) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value ?? {}))
  let body = ''
  for await (const chunk of request.setEncoding('utf8')) body += chunk
  if (!paths[pathname]) return answer(404, { error: 'NotFound' })
  try {
    const token = request.headers.authorization?.replace(/^Bearer /, '')
    answer(200, await paths[pathname]({ token, query, headers: request.headers, body: body && JSON.parse(body) }))
  } catch (err) {
    answer(401, { error: 'AuthenticationRequired', message: String(err.message) })
  }
}).listen(at.services)
