// The methods of a folder of lexicons as the reference's own server has them: it checks
// parameters and bodies with what @atproto/lex-document makes of the documents, and answers
// what is valid with what it has read.
//
//   node lex.mjs FOLDER PORT
//
// /built lists the methods, and why others cannot be built.
import fs from 'node:fs'
import path from 'node:path'
import express from 'express'
import { LexiconIterableIndexer, LexiconSchemaBuilder } from '@atproto/lex-document'
import { lexToJson } from '@atproto/lex-json'
import { createServer } from '@atproto/xrpc-server'

const [folder, port] = process.argv.slice(2)

const documents = fs
  .readdirSync(folder, { recursive: true })
  .filter((name) => name.endsWith('.json'))
  .sort()
  .map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8')))

// The builder wants the name of the definition in every ref.
function whole(value) {
  if (Array.isArray(value)) return value.map(whole)
  if (typeof value !== 'object' || value === null) return value
  const copy = Object.fromEntries(Object.entries(value).map(([key, v]) => [key, whole(v)]))
  const named = (ref) => (ref.includes('#') ? ref : `${ref}#main`)
  if (copy.type === 'ref' && typeof copy.ref === 'string') copy.ref = named(copy.ref)
  if (copy.type === 'union' && Array.isArray(copy.refs)) copy.refs = copy.refs.map(named)
  return copy
}

// Limits are those of the reference PDS.
const server = createServer([], {
  validateResponse: false,
  payload: { jsonLimit: 150 * 1024, textLimit: 100 * 1024, blobLimit: 5 * 1024 * 1024 },
})
const indexer = new LexiconIterableIndexer(documents.map(whole))
const built = [], refused = {}
for (const { id, defs } of documents) {
  if (!['query', 'procedure'].includes(defs.main?.type)) continue
  try {
    const builder = new LexiconSchemaBuilder(indexer)
    const method = await builder.buildFullRef(`${id}#main`)
    await builder.done()
    server.add(method, ({ params, input }) => ({
      encoding: 'application/json',
      body: { params, input: input && !input.body?.pipe ? lexToJson(input.body) : undefined },
    }))
    built.push(id)
  } catch (err) {
    refused[id] = err.message
  }
}

const app = express()
app.get('/built', (req, res) => res.json({ built, refused }))
app.use(server.router)
app.listen(Number(port), 'localhost')
