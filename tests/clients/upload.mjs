// Uploads a file with tus-js-client and prints what happens, one JSON object a line: {"acknowledged": BYTES} after each
// request with bytes, {"resumed": BYTES} when it goes on with an earlier upload, at last {"url": URL}.
// Called by tests/it/clients.rs: node upload.mjs ENDPOINT FILE chunked|parallel|remembered
// Environment: API_KEY, CLIENTS (folder with node_modules), PAUSE_MS (after each request), MEMORY (file of `remembered`).
import { createReadStream } from 'node:fs'
import { createRequire } from 'node:module'
import { basename } from 'node:path'

const tus = createRequire(`${process.env.CLIENTS}/`)('tus-js-client')
const [endpoint, file, mode] = process.argv.slice(2)
const metadata = { filename: basename(file) }
const say = (what) => console.log(JSON.stringify(what))
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const options = {
  endpoint,
  headers: { 'X-API-Key': process.env.API_KEY },
  metadata,
  retryDelays: Array(40).fill(250),
  chunkSize: 1024 * 1024,
  onAfterResponse: async (request, response) => {
    if (request.getMethod() !== 'PATCH') return
    say({ acknowledged: Number(response.getHeader('Upload-Offset') ?? 0) })
    await pause(Number(process.env.PAUSE_MS ?? 0))
  },
}
if (mode === 'parallel') {
  Object.assign(options, { parallelUploads: 4, metadataForPartialUploads: metadata })
} else if (mode === 'remembered') {
  options.urlStorage = new tus.FileUrlStorage(process.env.MEMORY)
}

const upload = new tus.Upload(createReadStream(file), {
  ...options,
  onSuccess: () => say({ url: upload.url }),
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
})
if (mode === 'remembered') {
  const [previous] = await upload.findPreviousUploads()
  if (previous) {
    upload.resumeFromPreviousUpload(previous)
    say({ resumed: previous.uploadUrl })
  }
}
upload.start()
