// What somebody does who signs the first operation of their DID themselves, with the
// library of the directory's makers: they reserve a key, sign, sign up, and change the DID
// with a key of their own afterwards. What is not right is refused.
//
//   node genesis.mjs SERVER DIRECTORY ROTATION-KEY
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { AtpAgent, XRPCError } from '@atproto/api'

// These are CommonJS and have no maps of their exports.
const require = createRequire(import.meta.url)
const { EcdsaKeypair, Secp256k1Keypair } = require('@atproto/crypto')
const plc = require('@did-plc/lib')

const [service, directoryURL, serversKey] = process.argv.slice(2)
const directory = new plc.Client(directoryURL)
const password = 'correct horse battery'
const { server } = new AtpAgent({ service }).com.atproto

const reserve = async (did) => (await server.reserveSigningKey({ did })).data.signingKey

/** The operation for a new DID, and that DID; change is what is otherwise than it should be. */
async function sign(name, signer, change = {}) {
  const own = signer.did()
  const opts = {
    signingKey: change.signingKey ?? (await reserve()),
    handle: `${name}.test`,
    pds: service,
    rotationKeys: [own, serversKey],
    signer,
    ...change,
  }
  return plc.createOp(opts)
}

/** A sign-up with an operation. */
function form(name, op, more = {}) {
  return { handle: `${name}.test`, email: `${name}@example.com`, password, plcOp: op, ...more }
}

for (const [name, signer] of [
  ['genesis-k256', await Secp256k1Keypair.create()],
  ['genesis-p256', only(isLow, await EcdsaKeypair.create())],
]) {
  const { op, did } = await sign(name, signer)
  const agent = new AtpAgent({ service })
  const created = await agent.createAccount(form(name, op, name.endsWith('p256') ? { did } : {}))
  assert.equal(created.data.did, did)
  assert.deepEqual(await directory.getOperationLog(did), [op], 'the directory has what was signed')
  const { id, alsoKnownAs, service: services } = await directory.getDocument(did)
  const told = created.data.didDoc
  assert.deepEqual([told.id, told.alsoKnownAs, told.service], [id, alsoKnownAs, services])
  const status = (await agent.com.atproto.server.checkAccountStatus()).data
  assert.equal(status.validDid, true)
  assert.equal(status.activated, true)

  // Both hold the DID: the server by its key, the owner by theirs.
  await agent.com.atproto.identity.updateHandle({ handle: `${name}-2.test` })
  await directory.updateData(did, signer, (last) => ({ ...last, alsoKnownAs: [...last.alsoKnownAs, 'https://alice.example.com'] }))
  const data = await directory.getDocumentData(did)
  assert.deepEqual(data.alsoKnownAs, [`at://${name}-2.test`, 'https://alice.example.com'])
  assert.deepEqual(data.rotationKeys, [signer.did(), serversKey])

  // What the directory exports makes no second account, neither as it is nor under
  // another name; nor does its key.
  const exported = (await directory.getAuditableLog(did))[0].operation
  const thief = { email: 'thief@example.com' }
  await refused(form(name, exported, thief), 'AlreadyExists', 'Repo already exists')
  await refused(form(`${name}-3`, exported, thief), 'IncompatibleDidDoc', 'provided handle does not match DID document handle')
  const second = await sign(`${name}-3`, signer, { signingKey: op.verificationMethods.atproto })
  await refused(form(`${name}-3`, second.op), 'InvalidRequest', 'reserved signing key does not exist')
}

const signer = await Secp256k1Keypair.create()
const name = 'genesis-bad'
const key = await reserve()
const good = await sign(name, signer, { signingKey: key })
const some = async () => (await Secp256k1Keypair.create()).did()
const withoutSig = ({ sig, ...rest }) => rest
const p256 = await EcdsaKeypair.create()
const again = async (change) => plc.signOperation({ ...withoutSig(good.op), ...change }, signer)

for (const [what, op, message, error = 'IncompatibleDidDoc'] of [
  ['other server', (await sign(name, signer, { signingKey: key, pds: 'https://elsewhere.example.com' })).op, 'DID document pds endpoint does not match service endpoint'],
  ['other handle', (await sign('somebody', signer, { signingKey: key })).op, 'provided handle does not match DID document handle'],
  ['key not reserved', (await sign(name, signer, { signingKey: await some() })).op, 'reserved signing key does not exist', 'InvalidRequest'],
  ['key reserved for a DID', (await sign(name, signer, { signingKey: await reserve(good.did) })).op, 'reserved signing key does not exist', 'InvalidRequest'],
  ['no key of the server', (await sign(name, signer, { signingKey: key, rotationKeys: [signer.did()] })).op, 'PLC DID does not include service rotation key'],
  ['five keys', await again({ rotationKeys: [signer.did(), serversKey, await some(), await some(), await some()] }), 'invalid plc operation: 5 rotation keys, which must be 1 to 4'],
  ['further key', await again({ verificationMethods: { atproto: key, other: await some() } }), 'invalid plc operation: verificationMethods has more than atproto'],
  ['further service', await again({ services: { ...good.op.services, other: { type: 'Other', endpoint: service } } }), 'invalid plc operation: services has more than atproto_pds'],
  ['update', await plc.updateHandleOp(good.op, signer, `${name}.test`), 'invalid plc operation: prev is not null'],
  ['high S', (await sign(name, only((sig) => !isLow(sig), p256), { signingKey: key })).op, 'invalid plc operation: signature is not a canonical one of a rotation key'],
  ['signed by another', await plc.signOperation(withoutSig(good.op), await Secp256k1Keypair.create()), 'invalid plc operation: signature is not a canonical one of a rotation key'],
]) {
  await refused(form(name, op), error, message, what)
}
await refused(form(name, good.op, { did: 'did:plc:ewvi7nxzyoun6zhxrhs64oiz' }), 'IncompatibleDidDoc', `DID does not match that of plcOp: ${good.did}`)
await refused(form(name, good.op, { recoveryKey: await some() }), 'InvalidRequest', 'Unsupported input: "recoveryKey" beside "plcOp"')

// One that its owner has sent to the directory is there for everybody.
const early = await sign('genesis-early', signer)
await directory.sendOperation(early.did, early.op)
await refused(form('genesis-early', early.op), 'IncompatibleDidDoc', 'DID is registered already')

// After all that the good one is good.
assert.equal((await server.createAccount(form(name, good.op))).data.did, good.did)

/**
 * A key that makes only such signatures. The library's keys of P-256 sign with a high S
 * as often as not, which nobody takes who wants one text for a signature.
 */
function only(these, key) {
  const sign = async (bytes) => {
    for (;;) {
      const sig = await key.sign(bytes)
      if (these(sig)) return sig
    }
  }
  return { did: () => key.did(), sign }
}

/** Whether the S of a P-256 signature is the smaller one. */
function isLow(sig) {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  return BigInt('0x' + Buffer.from(sig.slice(32)).toString('hex')) <= order / 2n
}

/** Expects that a sign-up is refused. */
async function refused(input, error, message, what) {
  await assert.rejects(server.createAccount(input), (err) => {
    assert.ok(err instanceof XRPCError, String(err))
    assert.deepEqual([err.status, err.error, err.message], [400, error, message], what)
    return true
  })
}
