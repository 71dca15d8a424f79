"""What schemathesis has to be told about this API, and a count of what it sent. Loaded by schemathesis.toml.

At its end it prints a line for each operation, "  123 cases  GET /api/v1/jobs", which tests/it/contract.rs reads.
"""

import atexit
from collections import Counter

import schemathesis

# how the bytes of an upload are sent
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
# lines of JSON are a text to it
schemathesis.serializer.alias("application/x-ndjson", "text/plain")

sent = Counter()


@schemathesis.hook
def before_call(context, case, kwargs):
    # every request carries the key; a made-up token beside it would be two different credentials, which the API refuses
    if case.headers:
        case.headers.pop("Authorization", None)


@schemathesis.hook
def after_call(context, case, response):
    sent[case.operation.label] += 1


@atexit.register
def show():
    for operation, cases in sorted(sent.items()):
        print(f"{cases:5} cases  {operation}")
