// The real PLC directory, its operations kept in memory.
//
//   node plc.mjs PORT
import { createRequire } from 'node:module'

// The package is CommonJS and has no map of its exports.
const { Database, PlcServer } = createRequire(import.meta.url)('@did-plc/server')

const server = PlcServer.create({ db: Database.mock(), port: Number(process.argv[2]) })
await server.start()
