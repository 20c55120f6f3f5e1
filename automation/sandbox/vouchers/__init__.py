"""Vouchers, paid for by card and redeemed: five more sites of the sandbox, by host name.

`vouchers.localhost` sells them, `pay.localhost` takes the card, `bank.localhost` asks for the
code (3-D Secure), `wallet.localhost` redeems, and `phone.localhost` passes on what is sent to a
phone, as a forwarder of SMS does. README.md of the sandbox lists pages, switches, control paths.
"""
