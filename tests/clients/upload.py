"""Uploads a file with tuspy, each piece with its SHA-1, and prints {"url": URL}.

Called by tests/it/clients.rs: python upload.py ENDPOINT FILE, with API_KEY in the environment. Prints {"acknowledged": BYTES}
after each piece.
"""

import json
import os
import sys

from tusclient.client import TusClient

endpoint, file = sys.argv[1:]
client = TusClient(endpoint, headers={"X-API-Key": os.environ["API_KEY"]})
uploader = client.uploader(
    file,
    chunk_size=1024 * 1024,
    metadata={"filename": os.path.basename(file)},
    upload_checksum=True,
    retries=60,
    retry_delay=0.25,
)
size = uploader.get_file_size()
while uploader.offset < size:
    uploader.upload_chunk()
    print(json.dumps({"acknowledged": uploader.offset}), flush=True)
print(json.dumps({"url": uploader.url}), flush=True)
