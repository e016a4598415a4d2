"""Alembic environment and scripts, run by `store/migrate.py`."""
