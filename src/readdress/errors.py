"""What the API can refuse: one class per error on the wire, whose name is its code there.

A message tells the caller what to do next and nothing about the machine inside. The status is the advice to
retry: SDKs retry 429 and 5xx, and never anything else (contract 1).
"""

from typing import ClassVar


class ServiceError(Exception):
    """An answer other than success; the class name is the wire's code."""

    status: ClassVar[int] = 500
    retry_after_ms: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        return type(self).__name__


class InvalidParameterException(ServiceError):
    status = 400


class InvalidRequestException(ServiceError):
    status = 400


class AccessDeniedException(ServiceError):
    status = 403


class ResourceNotFoundException(ServiceError):
    status = 404


class ThrottlingException(ServiceError):
    status = 429

    def __init__(self, message: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class InternalServiceException(ServiceError):
    status = 500


class IdempotencyException(ServiceError):
    status = 409


class DuplicateResourceException(ServiceError):
    status = 409


class ResourceConflictException(ServiceError):
    status = 409


class ServiceQuotaExceededException(ServiceError):
    status = 402


# What the door says before an operation is known.


class MissingAuthenticationTokenException(ServiceError):
    status = 403


class IncompleteSignatureException(ServiceError):
    status = 403


class UnrecognizedClientException(ServiceError):
    status = 403


class InvalidSignatureException(ServiceError):
    status = 403


class UnknownOperationException(ServiceError):
    status = 404


class SerializationException(ServiceError):
    status = 400


class RequestEntityTooLargeException(ServiceError):
    status = 413


class ServiceUnavailableException(ServiceError):
    status = 503

    def __init__(self, message: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
