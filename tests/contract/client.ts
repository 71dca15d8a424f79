// Uses the types that openapi-typescript made, with openapi-fetch: logs in, submits a job, waits for it, reads its result,
// meets a problem. Called by tests/it/contract.rs, compiled: node client.js URL PATH, with API_KEY in the environment.
// Prints {"state": STATE, "codec": CODEC, "code": CODE}.
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

declare const process: { argv: string[]; env: Record<string, string | undefined> }

type Job = components['schemas']['JobView']

// What sends credentials with every request: here the key itself, as a bearer token.
const logIn = (baseUrl: string, key: string) =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } })

const [, , url = '', path = ''] = process.argv
const api = logIn(url, process.env['API_KEY'] ?? '')

// the data of an answer, or its problem as an exception
const read = <T>(answer: { data?: T; error?: unknown }): T => {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error))
  return answer.data
}

let job: Job = read(
  await api.POST('/api/v1/jobs', {
    params: { header: { 'Idempotency-Key': crypto.randomUUID() } },
    body: { source: { type: 'path', path }, profile: 'quick' },
  }),
)
while (job.state === 'queued' || job.state === 'running') {
  job = read(await api.GET('/api/v1/jobs/{id}', { params: { path: { id: job.id }, query: { wait: 10 } } }))
}
const result = read(await api.GET('/api/v1/jobs/{id}/result', { params: { path: { id: job.id } } }))
const unknown = await api.GET('/api/v1/jobs/{id}', { params: { path: { id: crypto.randomUUID() } } })
const code: string | undefined = unknown.error?.code
console.log(JSON.stringify({ state: job.state, codec: result.media.video[0]?.codec, code }))
