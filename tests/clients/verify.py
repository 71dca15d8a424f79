"""Verifies webhooks with the standardwebhooks library of PyPI: each line of the file is a message with its secret and whether it
is good. Used by tests/it/webhooks/signature.rs."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

good = bad = 0
for line in open(sys.argv[1], encoding="utf-8"):
    message = json.loads(line)
    try:
        read = Webhook(message["secret"]).verify(message["body"], message["headers"])
        assert message["good"], f"taken, and should not be: {message}"
        assert read is None or read["type"], read
        good += 1
    except WebhookVerificationError as error:
        assert not message["good"], f"{error}: {message}"
        bad += 1
print(json.dumps({"good": good, "bad": bad}))
