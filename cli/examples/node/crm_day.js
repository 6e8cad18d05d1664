// A CRM's day with its hospital's node: check, request, verify, and its own accesses. cli/docs/crm.md explains each step.
//
//     npm ci --prefix cli/examples/node
//     node cli/examples/node/crm_day.js --node https://127.0.0.1:7411 --cert C/cert.pem --key C/key.pem --ca C/ca.pem \
//         --custodian cedar --identifier 'urn:example:mrn|1' --birth-date 1980-02-03 --actor 'Dr. Grey' --out ada.bundle
'use strict'

const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

// How a file starts that `assent verify` reads; the bundle follows.
const BUNDLE_MAGIC = 'ASSENTB1'
const SECONDS = 30

const protos = path.join(__dirname, '../../../proto/proto')
// No defaults: what is absent must stay absent, for a bundle has just one accepted encoding.
const form = { includeDirs: [protos], keepCase: true, longs: Number, enums: String }
const { assent } = grpc.loadPackageDefinition(loader.loadSync('assent/v1/exchange.proto', form))
const { google } = grpc.loadPackageDefinition(loader.fromJSON(errorDetails(), form))

// google/rpc/status.proto and error_details.proto, as much as is needed: every error has one ErrorInfo.
function errorDetails () {
  const field = (id, type, more) => ({ id, type, ...more })
  const types = {
    Any: { fields: { type_url: field(1, 'string'), value: field(2, 'bytes') } },
    Status: { fields: { details: field(3, 'Any', { rule: 'repeated' }) } },
    ErrorInfo: { fields: { reason: field(1, 'string'), domain: field(2, 'string'), metadata: field(3, 'string', { keyType: 'string' }) } }
  }
  return { nested: { google: { nested: { rpc: { nested: types } } } } }
}

// Why a call failed: a machine-readable reason, and what belongs to it.
function errorInfo (error) {
  const decode = (type, bytes) => google.rpc[type].deserialize(bytes)
  for (const bytes of error.metadata?.get('grpc-status-details-bin') ?? []) {
    const found = decode('Status', bytes).details.find(detail => detail.type_url.endsWith('/google.rpc.ErrorInfo'))
    if (found) return decode('ErrorInfo', found.value)
  }
  throw error // not from the node: no connection, for example
}

const deadline = () => new Date(Date.now() + SECONDS * 1000)

function unary (client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: deadline() }, (error, answer) => error ? reject(error) : resolve(answer))
  })
}

// True when something would be released. False says nothing about why, nor whether there is such a patient.
async function check (decisions, query) {
  try {
    const { outcome } = await unary(decisions, 'CheckConsent', { query })
    // An outcome that this program does not know is no permit.
    return outcome === 'OUTCOME_PERMIT' || outcome === 'OUTCOME_PERMIT_OVERRIDE'
  } catch (error) {
    if (errorInfo(error).reason === 'NOT_RELEASED') return false
    throw error
  }
}

// The records with the proof that the access stands in the ledger. After a failure, repeat with the same request id.
async function request (exchange, query, requestId) {
  const bundle = { resources: [] }
  for await (const message of exchange.RequestRecords({ request_id: requestId, query }, { deadline: deadline() })) {
    if (message.proof) bundle.proof = message.proof
    bundle.resources.push(...message.resources ?? [])
  }
  return bundle
}

// What this client got so far, newest first.
async function * accesses (exchange) {
  let token = ''
  do {
    const page = await unary(exchange, 'ListAccesses', { page_token: token })
    yield * page.accesses ?? []
    token = page.next_page_token
  } while (token)
}

async function main () {
  const names = ['node', 'cert', 'key', 'ca', 'custodian', 'identifier', 'birth-date', 'actor', 'out']
  const { values: given } = parseArgs({ options: Object.fromEntries(names.map(name => [name, { type: 'string' }])) })
  const missing = names.find(name => given[name] === undefined)
  if (missing) throw new Error(`--${missing} is missing`)
  const [system, value] = given.identifier.split('|')
  const patient = { custodian: given.custodian, identifier_system: system, identifier_value: value, birth_date: given['birth-date'] }
  const query = purpose => ({ patient, purpose, actor: given.actor })

  const address = new URL(given.node).host
  const credentials = grpc.credentials.createSsl(...[given.ca, given.key, given.cert].map(name => fs.readFileSync(name)))
  const decisions = new assent.v1.DecisionService(address, credentials)
  const exchange = new assent.v1.ExchangeService(address, credentials)

  for (const purpose of ['TREAT', 'HMARKT']) {
    console.log(`check ${purpose}:`, await check(decisions, query(purpose)) ? 'PERMIT (may be incomplete)' : 'not released')
  }
  try {
    await check(decisions, query('FUN'))
  } catch (error) {
    const { domain, reason, metadata } = errorInfo(error)
    console.log('check FUN:', domain, reason, 'in', metadata.field)
  }

  const bundle = await request(exchange, query('TREAT'), crypto.randomUUID())
  const bytes = assent.ledger.v1.RecordBundle.serialize(bundle)
  fs.writeFileSync(given.out, Buffer.concat([Buffer.from(BUNDLE_MAGIC), bytes]))
  console.log('request:', bundle.resources.length, 'resources in', given.out)

  const verified = await unary(exchange, 'VerifyRecords', { bundle })
  console.log('verify:', verified.holds ? `holds, block ${verified.access_height}` : verified.fault)

  for await (const access of accesses(exchange)) {
    const when = new Date(access.time_ms).toISOString().slice(0, 16).replace('T', ' ')
    console.log('access:', when, access.query.purpose, access.query.actor, access.resources, 'resources')
  }
  decisions.close()
  exchange.close()
}

main().catch(error => {
  console.error(`error: ${error.message}`)
  process.exitCode = 1
})
