"""django-oscar as a shop that nobody here wrote: own process, own database, own accounts.

Tests use `shop.py`, which imports no Django; the other modules run inside Oscar's process only.
"""
