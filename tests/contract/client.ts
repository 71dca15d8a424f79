// Uses the types that openapi-typescript made, with openapi-fetch: logs in, submits a job, waits for it, reads its result,
// meets a problem. Called by tests/it/contract.rs, compiled: node client.js URL PATH, with API_KEY in the environment.
// Prints {"state": STATE, "codec": CODEC, "code": CODE}.
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

declare const process: { argv: string[]; env: Record<string, string | undefined> }

type Job = components['schemas']['JobView']
type Tokens = components['schemas']['TokenAnswer']

// the data of an answer, or its problem as an exception
const read = <T>(answer: { data?: T; error?: unknown }): T => {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error))
  return answer.data
}

// Exchanges the key, which is sent this once, for tokens; returns what sends the newest access token with every request, and
// what asks for the next tokens.
const logIn = async (baseUrl: string, key: string) => {
  const door = createClient<paths>({ baseUrl })
  const headers = { 'X-API-Key': key }
  let tokens: Tokens = read(await door.POST('/api/v1/auth/token', { headers, body: { grant_type: 'api_key' } }))
  const api = createClient<paths>({ baseUrl })
  api.use({
    onRequest({ request }) {
      request.headers.set('Authorization', `Bearer ${tokens.access_token}`)
    },
  })
  const refresh = async () => {
    const body = { grant_type: 'refresh_token' as const, refresh_token: tokens.refresh_token }
    tokens = read(await door.POST('/api/v1/auth/token', { body }))
  }
  return { api, refresh }
}

const [, , url = '', path = ''] = process.argv
const { api, refresh } = await logIn(url, process.env['API_KEY'] ?? '')

let job: Job = read(
  await api.POST('/api/v1/jobs', {
    params: { header: { 'Idempotency-Key': crypto.randomUUID() } },
    body: { source: { type: 'path', path }, profile: 'quick' },
  }),
)
while (job.state === 'queued' || job.state === 'running') {
  job = read(await api.GET('/api/v1/jobs/{id}', { params: { path: { id: job.id }, query: { wait: 10 } } }))
}
// long before the access token ends, as a client does that works for long
await refresh()
const result = read(await api.GET('/api/v1/jobs/{id}/result', { params: { path: { id: job.id } } }))
const unknown = await api.GET('/api/v1/jobs/{id}', { params: { path: { id: crypto.randomUUID() } } })
const code: string | undefined = unknown.error?.code
console.log(JSON.stringify({ state: job.state, codec: result.media.video[0]?.codec, code }))
