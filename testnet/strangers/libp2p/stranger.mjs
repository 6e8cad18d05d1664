// js-libp2p dials a node's exchange port: stranger.mjs NODE_PORT KEY_OF_A_MEMBER PROTOCOL...
// A stranger is pinged and identified, and offered none of our protocols. With a member's key the same program is offered all of
// them: so their names are right, and the refusals are about who asks.
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair, privateKeyFromRaw } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [address, memberKey, ...protocols] = process.argv.slice(2)
assert(protocols.length > 0)

// Connects with a key, and says what the node offers.
async function dial (privateKey, work) {
  const node = await createLibp2p({
    privateKey,
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { ping: ping(), identify: identify() }
  })
  try {
    const identified = new Promise(resolve => node.addEventListener('peer:identify', event => resolve(event.detail)))
    const connection = await node.dial(multiaddr(address))
    assert(await node.services.ping.ping(connection.remotePeer) >= 0)
    const { protocols: offered, agentVersion, listenAddrs } = await identified
    assert.match(agentVersion, /^assentd\//)
    assert.deepEqual(listenAddrs, [], 'it tells its addresses')
    await work(connection, offered)
  } finally {
    await node.stop()
  }
}

await dial(await generateKeyPair('Ed25519'), async (connection, offered) => {
  assert.deepEqual(offered.filter(name => name.startsWith('/assent/')), [])
  for (const protocol of protocols) {
    await assert.rejects(connection.newStream(protocol), { name: 'UnsupportedProtocolError' }, protocol)
  }
})

const { d, x } = createPrivateKey(readFileSync(memberKey)).export({ format: 'jwk' })
const raw = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')])
await dial(privateKeyFromRaw(raw), async (_, offered) => {
  assert.deepEqual(offered.filter(name => name.startsWith('/assent/')).sort(), [...protocols].sort())
})
