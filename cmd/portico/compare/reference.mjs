// What Portico is compared with, started on loopback with everything in PDS_* variables:
//
//   node reference.mjs pds        the reference PDS
//   node reference.mjs plc PORT   the PLC directory, its operations kept in memory
import { createRequire } from 'node:module'

// This one is CommonJS and has no map of its exports.
const require = createRequire(import.meta.url)

const start = {
  async pds() {
    const { PDS, envToCfg, envToSecrets, readEnv } = await import('@atproto/pds')
    const env = readEnv()
    return (await PDS.create(envToCfg(env), envToSecrets(env))).start()
  },
  async plc(port) {
    const { Database, PlcServer } = require('@did-plc/server')
    return PlcServer.create({ db: Database.mock(), port: Number(port) }).start()
  },
}

const [what, ...rest] = process.argv.slice(2)
await start[what](...rest)
