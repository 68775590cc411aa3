"""What a boto3 call must be refused with: code, status and the words that its message owes the caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

# The status is the advice to retry (contract 1).
STATUSES = {
    "InvalidParameterException": 400,
    "InvalidRequestException": 400,
    "ServiceQuotaExceededException": 402,
    "AccessDeniedException": 403,
    "InvalidSignatureException": 403,
    "UnrecognizedClientException": 403,
    "ResourceNotFoundException": 404,
    "DuplicateResourceException": 409,
    "IdempotencyException": 409,
    "ResourceConflictException": 409,
    "ThrottlingException": 429,
}


class Refusal:
    """Filled when the block has ended."""

    message = ""


@contextmanager
def refused(code: str, *words: str) -> Iterator[Refusal]:
    """The block's call fails with the code and its status, and the message holds all the words."""
    refusal = Refusal()
    with pytest.raises(ClientError) as caught:
        yield refusal
    response: dict[str, Any] = caught.value.response
    refusal.message = response["Error"]["Message"]
    assert response["Error"]["Code"] == code, refusal.message
    assert response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[code]
    assert response["ResponseMetadata"]["RequestId"]
    for word in words:
        assert word in refusal.message
