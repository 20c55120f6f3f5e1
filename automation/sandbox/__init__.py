"""Three made-up web shops in one process: a double of the outside world.

Nothing imports this package; it is run (`python -m automation.sandbox`), driven over HTTP and
asked over HTTP what really happened. README.md lists its shops, switches and control paths.
"""
