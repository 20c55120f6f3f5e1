"""The step handlers of the voucher workflows, one subject a module.

What to do is decided by pure functions (`paying.py`, `redeeming.py`, `issuing.py`); the modules
beside them look, ask those, and act. The plans are in `payments/workflows.py`.
"""
