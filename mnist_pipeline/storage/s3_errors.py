"""What S3 says, in words for people: what could not be done, to which bucket and key, and what to do about it.

Here: which fault may pass by itself (StoreUnreachable) and which waits for somebody (StoreUnavailable).
Not here: trying again, which is done before this is asked (`s3_requests.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mnist_pipeline.storage.blobs import StoreUnavailable, StoreUnreachable

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile or role of this process"
_TOKEN = "the session token has expired or is wrong: sign in again, or renew AWS_SESSION_TOKEN with both keys"
_ACCESS = (
    "access denied: allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload "
    "on the keys and s3:ListBucket on the bucket (without ListBucket, a key that is not there is denied too)"
)
_BUCKET = "there is no such bucket: create it, or correct MNIST_S3_BUCKET or the s3://… location that names it"
_REGION = "the bucket is in another region{region}: set AWS_DEFAULT_REGION to it, or S3_ENDPOINT_URL to its server"
_CONDITIONS = (
    "the server does not know a request that is needed, such as a write on the condition that the key is free "
    "(If-None-Match): use AWS, or a newer release of that server; where it is checksums that it lacks, set "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
)
_FULL = "the storage is full or its quota used up: free some space or raise it, then try again"
_CURES = {
    "AccessDenied": _ACCESS,
    "AllAccessDisabled": _ACCESS,
    "AccountProblem": "the account is blocked: ask who owns it",
    "InvalidAccessKeyId": f"the access key is not known there: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key, or a proxy changed the request: {_KEYS}",
    "ExpiredToken": _TOKEN,
    "ExpiredTokenException": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it (NTP), then try again",
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": "that is no name for a bucket: correct MNIST_S3_BUCKET or the s3://… location",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "the object is archived: restore it, and keep this prefix out of archiving lifecycle rules",
    "EntityTooLarge": "larger than that storage takes: make it smaller",
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "NotImplemented": _CONDITIONS,
    "MethodNotAllowed": f"the method is not allowed: is this an S3 server? {_CONDITIONS}",
}
_BY_STATUS = {301: _REGION, 307: _REGION, 401: _ACCESS, 403: _ACCESS, 405: _CONDITIONS, 501: _CONDITIONS, 507: _FULL}
_PASSING = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException"),
    *("ConditionalRequestConflict", "OperationAborted", "NoSuchUpload", "BadDigest", "TooManyRequests"),
}
_PASSING_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}


@contextmanager
def explained(action: str, where: str) -> Iterator[None]:
    """Turn what S3, boto3 and the network say into StoreUnavailable, or StoreUnreachable where it may pass."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answered(error.response, f"cannot {action} {where}") from error
    except BotoCoreError as error:
        raise _failed(error, f"cannot {action} {where}") from error


def code_of(error: Any) -> str:
    """The code of a ClientError: "NoSuchKey"; the status where there is no body to say more: "404"."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(response: dict[str, Any], what: str) -> StoreUnavailable:
    said, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(said.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
    region = said.get("Region") or meta.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    told = f"(HTTP {status} {code}: {said.get('Message') or 'no message'})"
    if code in _PASSING or (code not in _CURES and status in _PASSING_STATUS):
        tries = meta.get("RetryAttempts", 0) + 1
        return StoreUnreachable(f"{what}: the server is busy or failing, {tries} tries; try again later {told}")
    cure = _CURES.get(code) or _BY_STATUS.get(status) or "the server refused it: see its answer"
    return StoreUnavailable(f"{what}: {cure.format(region=f' ({region})' if region else '')} {told}")


def _failed(error: Any, what: str) -> StoreUnavailable:
    """There was no answer, or none that could be used."""
    from botocore import exceptions as known

    credentials = (
        known.NoCredentialsError,
        known.PartialCredentialsError,
        known.CredentialRetrievalError,
        known.TokenRetrievalError,
        known.SSOError,
        known.ProfileNotFound,
    )
    told = " ".join(str(error).split())
    if isinstance(error, credentials):
        return StoreUnavailable(f"{what}: there are no credentials ({told}): {_KEYS}")
    if isinstance(error, known.SSLError):
        return StoreUnavailable(f"{what}: the certificate is not trusted ({told}): set AWS_CA_BUNDLE to your own")
    passing = (known.HTTPClientError, known.ConnectionError, known.IncompleteReadError, known.FlexibleChecksumError)
    if isinstance(error, passing):
        return StoreUnreachable(
            f"{what}: no whole answer came ({told}): check the network and S3_ENDPOINT_URL; try again later"
        )
    return StoreUnavailable(f"{what}: {told}")
