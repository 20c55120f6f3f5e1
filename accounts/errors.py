"""Errors of people and secrets."""


class AccountsError(Exception):
    code = "accounts_error"


class KeyRingError(AccountsError):
    """The key ring in CREDENTIAL_KEYS cannot be used."""

    code = "key_ring"


class UnsealError(AccountsError):
    """A stored secret cannot be opened: unknown key, or a value that was moved or changed."""

    code = "unseal"
