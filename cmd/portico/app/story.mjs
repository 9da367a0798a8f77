// What people do with Bluesky's app, with the client that it is made with: each thing is
// done through the account's server and looked for where the app would show it.
//
//   node story.mjs SERVER SERVICES APPVIEW ADMINPASSWORD
import assert from 'node:assert/strict'
import { deflateSync, crc32 } from 'node:zlib'
import { AtpAgent, RichText } from '@atproto/api'
import { administrator, bearer, refused, story } from '../interop/story.mjs'

const [server, services, appView, adminPassword] = process.argv.slice(2)
const network = await (await fetch(services)).json()

/** Asks something of what network.mjs can do. */
async function turn(path, body) {
  const response = await fetch(services + path, body && { method: 'POST', body: JSON.stringify(body) })
  assert.equal(response.status, 200)
  return response.json()
}

/**
 * What the app view says as soon as what was done has reached it: the result of ask once
 * it holds for look.
 */
async function until(ask, look) {
  const deadline = Date.now() + 180_000
  for (;;) {
    try {
      const got = await ask()
      await look(got)
      return got
    } catch (err) {
      if (Date.now() > deadline) throw err
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const password = 'correct horse'

/** An agent as the app makes it. */
function newAgent() {
  const agent = new AtpAgent({ service: server })
  agent.configureProxy(`${network.appView}#bsky_appview`)
  agent.configureLabelers([network.moderation])
  return agent
}

/** A picture in one colour. */
function picture(width, height, colour) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data])
    const ends = Buffer.alloc(8)
    ends.writeUInt32BE(data.length, 0)
    ends.writeUInt32BE(crc32(body), 4)
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)])
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2], 8) // RGB, a byte each
  const line = Buffer.concat([Buffer.of(0), ...Array(width).fill(Buffer.from(colour))])
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.concat(Array(height).fill(line)))),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

async function upload(agent, ...how) {
  const { data } = await agent.uploadBlob(picture(...how), { encoding: 'image/png' })
  return data.blob
}

/** The picture that a view shows, which the app view fetches from the account's server. */
async function shown(url) {
  assert.ok(url?.startsWith(appView + '/img/'), url)
  await until(() => fetch(url), (response) => {
    assert.equal(response.status, 200)
    assert.match(response.headers.get('content-type'), /^image\//)
  })
}

const [alice, bob, carol, dan] = [newAgent(), newAgent(), newAgent(), newAgent()]
const people = { alice, bob, carol, dan }
const now = () => new Date().toISOString()

/** What is posted with the features that the text has: mentions, links, tags. */
async function write(agent, text, rest) {
  const rich = new RichText({ text })
  await rich.detectFacets(agent)
  return agent.post({ text: rich.text, facets: rich.facets, langs: ['en'], createdAt: now(), ...rest })
}

const texts = (feed) => feed.map((item) => item.post.record.text)
const timeline = (agent) => agent.getTimeline({ limit: 50 }).then((r) => r.data.feed)
const one = (agent, uri) => agent.getPosts({ uris: [uri] }).then((r) => r.data.posts[0])
const profile = (agent, of) => agent.getProfile({ actor: of.did }).then((r) => r.data)
const ref = ({ uri, cid }) => ({ uri, cid })
const image = async (agent) => ({ alt: 'a red square', image: await upload(agent, 40, 30, [255, 0, 0]), aspectRatio: { width: 4, height: 3 } })

await story('sign-up', async () => {
  for (const [name, agent] of Object.entries(people)) {
    await agent.createAccount({ handle: `${name}.test`, email: `${name}@example.com`, password })
    await agent.updateSeenNotifications() // before which all counts as seen
  }
  await turn('/listen')
  for (const [name, agent] of Object.entries(people)) {
    await until(() => profile(alice, agent), (p) => {
      assert.equal(p.did, agent.did)
      assert.equal(p.handle, `${name}.test`)
    })
  }
  // Who has no account is shown them as well, by the app view itself.
  const stranger = new AtpAgent({ service: appView })
  assert.equal((await profile(stranger, alice)).handle, 'alice.test')
})

await story('profile', async () => {
  await alice.upsertProfile(async () => ({
    displayName: 'Alice', description: 'who begins', avatar: await upload(alice, 100, 100, [0, 0, 255]), banner: await upload(alice, 300, 100, [0, 255, 0]),
  }))
  await bob.upsertProfile(() => ({ displayName: 'Bob' }))
  const p = await until(() => profile(bob, alice), (p) => assert.equal(p.displayName, 'Alice'))
  assert.equal(p.description, 'who begins')
  await shown(p.avatar)
  await shown(p.banner)
  const { data } = await until(() => carol.getProfiles({ actors: [alice.did, bob.did] }), ({ data }) => assert.equal(data.profiles[1].displayName, 'Bob'))
  assert.deepEqual(data.profiles.map((p) => p.displayName), ['Alice', 'Bob'])
})

let follow
await story('follow', async () => {
  follow = await bob.follow(alice.did)
  await carol.follow(alice.did)
  await alice.follow(bob.did)
  const p = await until(() => profile(bob, alice), (p) => {
    assert.equal(p.followersCount, 2)
    assert.equal(p.viewer.following, follow.uri)
    assert.ok(p.viewer.followedBy)
  })
  assert.equal(p.followsCount, 1)
  const { data } = await bob.getFollowers({ actor: alice.did })
  assert.deepEqual(data.followers.map((f) => f.did).sort(), [bob.did, carol.did].sort())
  assert.deepEqual((await bob.getFollows({ actor: bob.did })).data.follows.map((f) => f.did), [alice.did])
})

let hello, pictured, card, quote, both
await story('posts', async () => {
  hello = await write(alice, 'Hello @bob.test, see https://example.com/ #first')
  const sent = (await alice.app.bsky.feed.post.get({ repo: alice.did, rkey: hello.uri.split('/').at(-1) })).value
  assert.deepEqual(sent.facets.map((f) => f.features[0].$type.split('#')[1]), ['mention', 'link', 'tag'])
  assert.equal(sent.facets[0].features[0].did, bob.did)

  pictured = await write(alice, 'a picture', { embed: { $type: 'app.bsky.embed.images', images: [await image(alice)] } })
  card = await write(alice, 'a card', {
    embed: {
      $type: 'app.bsky.embed.external',
      external: { uri: 'https://example.com/', title: 'Example', description: 'of a page', thumb: await upload(alice, 50, 50, [9, 9, 9]) },
    },
  })
  quote = await write(bob, 'a quote', { embed: { $type: 'app.bsky.embed.record', record: ref(hello) } })
  both = await write(bob, 'a quote with a picture', {
    embed: {
      $type: 'app.bsky.embed.recordWithMedia',
      record: { record: ref(pictured) },
      media: { $type: 'app.bsky.embed.images', images: [await image(bob)] },
    },
  })
  const posts = await until(
    async () => (await carol.getPosts({ uris: [pictured, card, quote, both].map((p) => p.uri) })).data.posts,
    (posts) => assert.equal(posts.length, 4),
  )
  const [a, b, c, d] = posts.map((p) => p.embed)
  assert.equal(a.$type, 'app.bsky.embed.images#view')
  assert.equal(a.images[0].alt, 'a red square')
  await shown(a.images[0].thumb)
  await shown(a.images[0].fullsize)
  assert.equal(b.$type, 'app.bsky.embed.external#view')
  assert.equal(b.external.title, 'Example')
  await shown(b.external.thumb)
  assert.equal(c.$type, 'app.bsky.embed.record#view')
  assert.equal(c.record.uri, hello.uri)
  assert.equal(d.$type, 'app.bsky.embed.recordWithMedia#view')
  assert.equal(d.record.record.uri, pictured.uri)
  await shown(d.media.images[0].thumb)

  // Carol follows Alice and not Bob.
  await until(() => timeline(carol), (feed) => assert.deepEqual(texts(feed), ['a card', 'a picture', 'Hello @bob.test, see https://example.com/ #first']))
  const { data } = await carol.getAuthorFeed({ actor: bob.did })
  assert.deepEqual(texts(data.feed), ['a quote with a picture', 'a quote'])
  await until(() => one(carol, hello.uri), (p) => assert.equal(p.quoteCount, 1))
  assert.deepEqual((await carol.app.bsky.feed.getQuotes({ uri: hello.uri })).data.posts.map((p) => p.uri), [quote.uri])
})

let like, repost
await story('like and repost', async () => {
  like = await bob.like(hello.uri, hello.cid)
  repost = await bob.repost(hello.uri, hello.cid)
  await carol.like(hello.uri, hello.cid)
  const p = await until(() => one(bob, hello.uri), (p) => {
    assert.equal(p.likeCount, 2)
    assert.equal(p.repostCount, 1)
  })
  assert.equal(p.viewer.like, like.uri)
  assert.equal(p.viewer.repost, repost.uri)
  const likes = await bob.getLikes({ uri: hello.uri })
  assert.deepEqual(likes.data.likes.map((l) => l.actor.did).sort(), [bob.did, carol.did].sort())
  assert.deepEqual((await bob.getRepostedBy({ uri: hello.uri })).data.repostedBy.map((r) => r.did), [bob.did])
  assert.deepEqual(texts((await bob.getActorLikes({ actor: bob.did })).data.feed), [p.record.text])
  await until(() => timeline(alice), (feed) => {
    const item = feed.find((item) => item.reason)
    assert.equal(item?.reason.by.did, bob.did)
    assert.equal(item.post.uri, hello.uri)
  })
})

let reply, answer
await story('thread', async () => {
  reply = await write(bob, 'a reply', { reply: { root: ref(hello), parent: ref(hello) } })
  await until(() => one(alice, reply.uri), (p) => assert.ok(p)) // people answer what they see
  answer = await write(alice, 'an answer', { reply: { root: ref(hello), parent: ref(reply) } })
  await write(carol, 'another reply', { reply: { root: ref(hello), parent: ref(hello) } })
  const { data } = await until(() => carol.getPostThread({ uri: hello.uri, depth: 6 }), ({ data }) => {
    const replies = Object.fromEntries(data.thread.replies.map((r) => [r.post.record.text, r]))
    assert.deepEqual(Object.keys(replies).sort(), ['a reply', 'another reply'])
    assert.deepEqual(replies['a reply'].replies.map((r) => r.post.record.text), ['an answer'])
  })
  assert.equal(data.thread.post.uri, hello.uri)
  const up = (await carol.getPostThread({ uri: answer.uri })).data.thread
  assert.equal(up.parent.post.uri, reply.uri)
  assert.equal(up.parent.parent.post.uri, hello.uri)
  // The one that the app asks for nowadays.
  const { thread } = (await carol.app.bsky.unspecced.getPostThreadV2({ anchor: hello.uri })).data
  assert.deepEqual(thread.map((t) => t.value.post.record.text).slice(0, 1), [data.thread.post.record.text])
  assert.equal(thread.length, 4)
  await refused(() => carol.getPostThread({ uri: `at://${dan.did}/app.bsky.feed.post/3jzfcijpj2z2a` }), 400, 'NotFound')
})

// What one has just done is there at once: nobody waits for the app view, which hears
// nothing until this is over.
await story('read after write', async () => {
  await turn('/deaf')
  await alice.upsertProfile((was) => ({ ...was, displayName: 'Alice the second', description: 'who waits for nobody' }))
  const fresh = await write(alice, 'fresh', {
    embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record: ref(quote) }, media: { $type: 'app.bsky.embed.images', images: [await image(alice)] } },
  })
  const again = await write(alice, 'fresh again', { reply: { root: ref(hello), parent: ref(reply) } })
  const below = await write(alice, 'below', { reply: { root: ref(fresh), parent: ref(fresh) } })

  const p = await profile(alice, alice)
  assert.equal(p.displayName, 'Alice the second')
  assert.equal(p.description, 'who waits for nobody')
  assert.equal((await alice.getProfiles({ actors: [bob.did, alice.did] })).data.profiles[1].displayName, 'Alice the second')
  assert.equal((await profile(bob, alice)).displayName, 'Alice')

  const written = ['below', 'fresh again', 'fresh']
  const mine = (await alice.getAuthorFeed({ actor: alice.did })).data.feed
  assert.deepEqual(texts(mine).slice(0, 4), [...written, 'an answer'])
  for (const item of mine) if (item.post.author.did === alice.did) assert.equal(item.post.author.displayName, 'Alice the second')
  const home = await alice.getTimeline()
  assert.deepEqual(texts(home.data.feed).slice(0, 3), written)
  assert.ok(Number(home.headers['atproto-upstream-lag']) > 0, 'how far behind the app view is')
  const { embed } = home.data.feed[2].post
  assert.equal(embed.record.record.uri, quote.uri)
  assert.equal(embed.record.record.value.text, 'a quote')
  assert.equal(embed.media.images[0].alt, 'a red square')

  const { thread } = (await alice.getPostThread({ uri: hello.uri })).data
  const under = thread.replies.find((r) => r.post.uri === reply.uri)
  assert.deepEqual(under.replies.map((r) => r.post.record.text).sort(), ['an answer', 'fresh again'])
  const unknown = (await alice.getPostThread({ uri: fresh.uri })).data.thread
  assert.equal(unknown.post.record.text, 'fresh')
  assert.deepEqual(unknown.replies.map((r) => r.post.record.text), ['below'])
  const lone = (await alice.getPostThread({ uri: again.uri, parentHeight: 5 })).data.thread
  assert.equal(lone.parent.post.uri, reply.uri)
  assert.equal(lone.parent.parent.post.uri, hello.uri)
  // Nobody else sees any of it yet.
  assert.ok(!texts(await timeline(carol)).includes('fresh'))
  await refused(() => carol.getPostThread({ uri: fresh.uri }), 400, 'NotFound')

  await turn('/listen')
  await until(() => timeline(carol), (feed) => assert.ok(texts(feed).includes('fresh')))
  await until(() => profile(bob, alice), (p) => assert.equal(p.displayName, 'Alice the second'))
  await until(() => alice.getTimeline(), (home) => {
    assert.deepEqual(texts(home.data.feed).slice(0, 3), written)
    assert.equal(home.headers['atproto-upstream-lag'], undefined)
  })
})

await story('notifications', async () => {
  const list = (agent) => agent.listNotifications().then((r) => r.data.notifications)
  const reasons = (of) => of.map((n) => n.reason).sort()
  const got = await until(() => list(alice), (got) => {
    // Once for each: Bob's and Carol's follows and likes, Bob's repost, his two quotes, and the replies.
    assert.deepEqual(reasons(got), ['follow', 'follow', 'like', 'like', 'quote', 'quote', 'reply', 'reply', 'repost'])
  })
  assert.ok(got.every((n) => !n.isRead))
  await until(() => list(bob), (got) => assert.deepEqual(reasons(got), ['follow', 'mention', 'quote', 'reply', 'reply']))
  assert.equal((await alice.countUnreadNotifications()).data.count, 9)
  await alice.updateSeenNotifications()
  await until(() => alice.countUnreadNotifications(), ({ data }) => assert.equal(data.count, 0))
  assert.ok((await list(alice)).every((n) => n.isRead))
  const after = await write(bob, 'Once more, @alice.test')
  await until(() => alice.countUnreadNotifications(), ({ data }) => assert.equal(data.count, 1))
  const [newest] = await list(alice)
  assert.equal(newest.uri, after.uri)
  assert.equal(newest.isRead, false)

  // What is to be told is kept by the app view.
  const { data } = await alice.app.bsky.notification.putPreferencesV2({ like: { include: 'follows', list: true, push: false } })
  assert.equal(data.preferences.like.include, 'follows')
  await until(() => alice.app.bsky.notification.getPreferences(), ({ data }) => assert.equal(data.preferences.like.include, 'follows'))
})

let curated, moderated
await story('lists', async () => {
  const make = async (purpose, name, ...members) => {
    const list = await alice.app.bsky.graph.list.create({ repo: alice.did }, { purpose: `app.bsky.graph.defs#${purpose}`, name, createdAt: now() })
    for (const { did } of members) await alice.app.bsky.graph.listitem.create({ repo: alice.did }, { list: list.uri, subject: did, createdAt: now() })
    return list.uri
  }
  curated = await make('curatelist', 'Friends', bob, carol)
  moderated = await make('modlist', 'Others', dan)
  const { data } = await until(() => alice.app.bsky.graph.getList({ list: curated }), ({ data }) => assert.equal(data.items.length, 2))
  assert.equal(data.list.name, 'Friends')
  assert.deepEqual(data.items.map((i) => i.subject.did).sort(), [bob.did, carol.did].sort())
  await until(() => alice.app.bsky.graph.getLists({ actor: alice.did }), ({ data }) => assert.equal(data.lists.length, 2))
  const feed = (await alice.app.bsky.feed.getListFeed({ list: curated })).data.feed
  assert.deepEqual(new Set(feed.map((item) => item.post.author.did)), new Set([bob.did, carol.did]))
})

await story('mute and block', async () => {
  await write(dan, 'Dan was here, @carol.test')
  await carol.follow(dan.did)
  await until(() => timeline(carol), (feed) => assert.ok(texts(feed).includes('Dan was here, @carol.test')))
  await carol.mute(dan.did)
  await until(() => timeline(carol), (feed) => assert.ok(!texts(feed).includes('Dan was here, @carol.test')))
  assert.equal((await profile(carol, dan)).viewer.muted, true)
  assert.deepEqual((await carol.app.bsky.graph.getMutes()).data.mutes.map((m) => m.did), [dan.did])
  await carol.unmute(dan.did)
  await until(() => timeline(carol), (feed) => assert.ok(texts(feed).includes('Dan was here, @carol.test')))

  await alice.muteModList(moderated)
  await until(() => profile(alice, dan), (p) => assert.equal(p.viewer.mutedByList?.uri, moderated))
  assert.equal((await alice.app.bsky.graph.getListMutes()).data.lists[0].uri, moderated)
  await alice.unmuteModList(moderated)
  await alice.blockModList(moderated)
  await until(() => profile(alice, dan), (p) => assert.equal(p.viewer.blockingByList?.uri, moderated))
  await alice.unblockModList(moderated)
  await until(() => profile(alice, dan), (p) => assert.equal(p.viewer.blocking, undefined))

  const block = await bob.app.bsky.graph.block.create({ repo: bob.did }, { subject: dan.did, createdAt: now() })
  await until(() => profile(dan, bob), (p) => assert.equal(p.viewer.blockedBy, true))
  assert.equal((await profile(bob, dan)).viewer.blocking, block.uri)
  assert.deepEqual((await bob.app.bsky.graph.getBlocks()).data.blocks.map((b) => b.did), [dan.did])
  await refused(() => dan.getAuthorFeed({ actor: bob.did }), 400, 'BlockedByActor')

  const thread = (agent) => agent.getPostThread({ uri: hello.uri }).then((r) => r.data.thread)
  await bob.app.bsky.graph.muteThread({ root: hello.uri })
  await until(() => thread(bob), (t) => assert.equal(t.post.viewer.threadMuted, true))
})

await story('bookmarks', async () => {
  await bob.app.bsky.bookmark.createBookmark(ref(hello))
  await until(() => bob.app.bsky.bookmark.getBookmarks(), ({ data }) => assert.deepEqual(data.bookmarks.map((b) => b.subject.uri), [hello.uri]))
})

await story('search', async () => {
  const found = await until(() => carol.app.bsky.feed.searchPosts({ q: 'picture' }), ({ data }) => assert.equal(data.posts.length, 2))
  assert.deepEqual(texts(found.data.posts.map((post) => ({ post }))).sort(), ['a picture', 'a quote with a picture'])
  assert.deepEqual((await carol.searchActors({ q: 'ali' })).data.actors.map((a) => a.did), [alice.did])
  assert.deepEqual((await carol.searchActorsTypeahead({ q: 'bo' })).data.actors.map((a) => a.did), [bob.did])
})

await story('feed generator', async () => {
  const feed = `at://${alice.did}/app.bsky.feed.generator/chosen`
  await alice.com.atproto.repo.putRecord({
    repo: alice.did, collection: 'app.bsky.feed.generator', rkey: 'chosen',
    record: { $type: 'app.bsky.feed.generator', did: network.generator, displayName: 'Chosen', description: 'by hand', avatar: await upload(alice, 20, 20, [1, 2, 3]), createdAt: now() },
  })
  await turn('/feed', [card.uri, hello.uri])
  const { data } = await until(() => bob.app.bsky.feed.getFeedGenerator({ feed }), ({ data }) => assert.equal(data.view.uri, feed))
  assert.equal(data.view.displayName, 'Chosen')
  assert.equal(data.view.did, network.generator)
  assert.equal((await bob.app.bsky.feed.getFeedGenerators({ feeds: [feed] })).data.feeds.length, 1)
  assert.equal((await bob.app.bsky.feed.getActorFeeds({ actor: alice.did })).data.feeds[0].uri, feed)
  const got = await bob.app.bsky.feed.getFeed({ feed, limit: 30 }, { headers: { 'accept-language': 'en' } })
  assert.deepEqual(got.data.feed.map((item) => item.post.uri), [card.uri, hello.uri])
  // The generator was told who asks; its token was good for it and nothing else.
  const asked = (await turn('/asked')).at(-1)
  assert.equal(asked.by, bob.did)
  assert.equal(asked.feed, feed)
  assert.equal(asked.headers['accept-language'], 'en')
  await refused(() => bob.app.bsky.feed.getFeed({ feed: feed + '-not' }), 400)
})

await story('preferences', async () => {
  const fresh = await alice.getPreferences()
  assert.equal(fresh.moderationPrefs.adultContentEnabled, false)
  assert.deepEqual(fresh.savedFeeds.map((f) => f.value), ['following']) // which the client has saved by now
  const feed = `at://${alice.did}/app.bsky.feed.generator/chosen`
  await alice.addSavedFeeds([{ type: 'feed', value: feed, pinned: true }])
  await alice.setAdultContentEnabled(true)
  await alice.setContentLabelPref('porn', 'warn')
  await alice.addMutedWord({ value: 'spoiler', targets: ['content'], actorTarget: 'all' })
  await alice.addLabeler(network.moderation)
  await alice.setThreadViewPrefs({ sort: 'newest' })
  await alice.setPersonalDetails({ birthDate: '1990-02-03T00:00:00.000Z' })

  const check = (prefs) => {
    assert.deepEqual(prefs.savedFeeds.map((f) => [f.type, f.value, f.pinned]), [['timeline', 'following', true], ['feed', feed, true]])
    assert.equal(prefs.moderationPrefs.adultContentEnabled, true)
    assert.equal(prefs.moderationPrefs.labels.porn, 'warn')
    assert.deepEqual(prefs.moderationPrefs.mutedWords.map((w) => w.value), ['spoiler'])
    assert.ok(prefs.moderationPrefs.labelers.some((l) => l.did === network.moderation))
    assert.equal(prefs.threadViewPrefs.sort, 'newest')
    assert.deepEqual(prefs.declaredAge, { isOverAge13: true, isOverAge16: true, isOverAge18: true })
  }
  const another = newAgent()
  await another.login({ identifier: 'alice.test', password })
  const full = await another.getPreferences()
  check(full)
  assert.equal(full.birthDate?.toISOString(), '1990-02-03T00:00:00.000Z')

  const { data } = await alice.com.atproto.server.createAppPassword({ name: 'a second app' })
  const second = newAgent()
  await second.login({ identifier: 'alice.test', password: data.password })
  const less = await second.getPreferences()
  check(less)
  assert.equal(less.birthDate, undefined, 'the date of birth is for full sessions')
  await refused(
    () => second.setPersonalDetails({ birthDate: '1980-01-01T00:00:00.000Z' }),
    400, 'InvalidRequest', 'Do not have authorization to set preferences: app.bsky.actor.defs#personalDetailsPref',
  )
  await second.setAdultContentEnabled(false)
  const after = await alice.getPreferences()
  assert.equal(after.moderationPrefs.adultContentEnabled, false)
  assert.equal(after.birthDate?.toISOString(), '1990-02-03T00:00:00.000Z')
  assert.equal((await bob.getPreferences()).moderationPrefs.adultContentEnabled, false)
})

await story('report', async () => {
  const reasonType = 'com.atproto.moderation.defs#reasonSpam'
  const account = { $type: 'com.atproto.admin.defs#repoRef', did: dan.did }
  const { data } = await carol.createModerationReport({ reasonType, reason: 'again and again', subject: account }, {
    encoding: 'application/json', headers: { 'atproto-proxy': `${network.moderation}#atproto_labeler` },
  })
  assert.equal(data.id, 1)
  assert.equal(data.reportedBy, carol.did)
  // Without a word about where, it goes to the server's own.
  const plain = new AtpAgent({ service: server })
  await plain.login({ identifier: 'bob.test', password })
  await plain.createModerationReport({ reasonType, subject: { $type: 'com.atproto.repo.strongRef', ...ref(hello) } })
  const [first, second] = await turn('/reports')
  assert.equal(first.reason, 'again and again')
  assert.deepEqual(first.subject, account)
  assert.equal(first.reportedBy, carol.did)
  assert.equal(second.subject.uri, hello.uri)
  assert.equal(second.reportedBy, bob.did)
})

await story('what the app asks besides', async () => {
  // No account's server knows these; their answers are the app view's.
  await bob.app.bsky.unspecced.getConfig()
  await bob.app.bsky.ageassurance.getConfig()
  await bob.app.bsky.ageassurance.getState({ countryCode: 'DE' })
  await bob.app.bsky.labeler.getServices({ dids: [network.moderation], detailed: true })
  await bob.app.bsky.unspecced.getPopularFeedGenerators()
  await bob.app.bsky.actor.getSuggestions()
  await bob.app.bsky.draft.getDrafts()
  await bob.app.bsky.graph.getActorStarterPacks({ actor: bob.did })
})

await story('delete', async () => {
  await bob.deleteLike(like.uri)
  await bob.deleteRepost(repost.uri)
  await bob.deleteFollow(follow.uri)
  await until(() => one(bob, hello.uri), (p) => {
    assert.equal(p.likeCount, 1)
    assert.equal(p.repostCount, 0)
    assert.equal(p.viewer.like, undefined)
  })
  await until(() => profile(bob, alice), (p) => assert.equal(p.viewer.following, undefined))
  await alice.deletePost(card.uri)
  await until(() => timeline(carol), (feed) => assert.ok(!texts(feed).includes('a card')))
  await refused(() => carol.getPostThread({ uri: card.uri }), 400, 'NotFound')
  assert.ok(!texts((await alice.getAuthorFeed({ actor: alice.did })).data.feed).includes('a card'))
})

await story('another handle', async () => {
  await carol.updateHandle({ handle: 'carola.test' })
  await until(() => profile(alice, carol), (p) => assert.equal(p.handle, 'carola.test'))
})

await story('deactivate', async () => {
  await bob.com.atproto.server.deactivateAccount({})
  await until(() => profile(alice, bob).catch((err) => err), (err) => assert.equal(err.error, 'AccountDeactivated'))
  await until(() => timeline(alice), (feed) => assert.ok(feed.every((item) => item.post.author.did !== bob.did)))
  await bob.com.atproto.server.activateAccount()
  await until(() => profile(alice, bob), (p) => assert.equal(p.handle, 'bob.test'))
  await until(() => timeline(alice), (feed) => assert.ok(feed.some((item) => item.post.author.did === bob.did)))
})

await story('taken down', async () => {
  const admin = new AtpAgent({ service: server })
  const subject = { $type: 'com.atproto.admin.defs#repoRef', did: dan.did }
  const takedown = (applied) =>
    admin.com.atproto.admin.updateSubjectStatus({ subject, takedown: { applied } }, { ...administrator(adminPassword), encoding: 'application/json' })
  await takedown(true)
  await until(() => profile(alice, dan).catch((err) => err), (err) => assert.equal(err.error, 'AccountTakedown'))
  // Who is taken down may still say that it is wrong.
  const { data } = await admin.com.atproto.server.createSession({ identifier: 'dan.test', password, allowTakendown: true })
  await admin.com.atproto.moderation.createReport(
    { reasonType: 'com.atproto.moderation.defs#reasonAppeal', reason: 'it was not me', subject },
    { ...bearer(data.accessJwt), encoding: 'application/json' },
  )
  assert.equal((await turn('/reports')).at(-1).reportedBy, dan.did)
  await refused(() => admin.app.bsky.feed.getTimeline({}, bearer(data.accessJwt)), 400, 'InvalidToken')
  await takedown(false)
  await until(() => profile(alice, dan), (p) => assert.equal(p.handle, 'dan.test'))
})

await story('an account is deleted', async () => {
  await new AtpAgent({ service: server }).com.atproto.admin.deleteAccount({ did: dan.did }, { ...administrator(adminPassword), encoding: 'application/json' })
  await until(() => profile(alice, dan).catch((err) => err), (err) => assert.equal(err.status, 400))
  await until(() => timeline(carol), (feed) => assert.ok(feed.every((item) => item.post.author.did !== dan.did)))
})

console.log('told')
