"""Uses the client that openapi-python-client made: logs in, submits a job, waits for it, reads its result, meets a problem.

Called by tests/it/contract.rs: python client.py URL PATH, with API_KEY in the environment and the client in PYTHONPATH.
Prints {"state": STATE, "codec": CODEC, "code": CODE}.
"""

import json
import os
import sys
import uuid

from ffprobe_api_client import AuthenticatedClient
from ffprobe_api_client.api.auth import create_token
from ffprobe_api_client.api.jobs import create_job, show_job, show_job_result
from ffprobe_api_client.models import CreateJob, JobView, Profile, ProblemBody, ResultView, SourceRequestType1, TokenAnswer
from ffprobe_api_client.models import GrantType0 as KeyGrant
from ffprobe_api_client.models import GrantType0GrantType as KeyGrantType
from ffprobe_api_client.models import SourceRequestType1Type as Kind


def expect(kind, answer):
    """The answer, which must be of this kind: a type narrows the union of all answers that the document has."""
    assert isinstance(answer, kind), answer
    return answer


def log_in(url: str, key: str) -> AuthenticatedClient:
    """Exchanges the key, which is sent this once, for an access token, and returns what sends that with every request."""
    with AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="X-API-Key") as client:
        grant = KeyGrant(grant_type=KeyGrantType.API_KEY)
        tokens = expect(TokenAnswer, create_token.sync(client=client, body=grant))
    return AuthenticatedClient(base_url=url, token=tokens.access_token)


url, path = sys.argv[1:]
with log_in(url, os.environ["API_KEY"]) as client:
    source = SourceRequestType1(type_=Kind.PATH, path=path)
    wish = CreateJob(source=source, profile=Profile.QUICK)
    job = expect(JobView, create_job.sync(client=client, body=wish, idempotency_key=str(uuid.uuid4())))
    while job.state in ("queued", "running"):
        job = expect(JobView, show_job.sync(job.id, client=client, wait=10))
    result = expect(ResultView, show_job_result.sync(job.id, client=client))
    problem = expect(ProblemBody, show_job.sync(uuid.uuid4(), client=client))
    print(json.dumps({"state": job.state, "codec": result.media.video[0].codec, "code": problem.code}))
