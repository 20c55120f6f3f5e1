"""Made-up web shops and voucher sites in one process: a double of the outside world.

Nothing imports this package; it is run (`python -m automation.sandbox`), driven over HTTP and
asked over HTTP what really happened. README.md lists sites, switches and control paths.
"""
