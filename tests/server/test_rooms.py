"""The directions inside the server, held."""

import pytest

from tests.test_layers import PACKAGE, imports

MAY_IMPORT = {"routes": {"state", "processes"}, "state": {"processes"}, "processes": set()}
SHARED = {"log"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_routes_ask_the_state_and_the_state_asks_the_processes(room):
    """Prevents the circle that there was: routes, the application with all its state, and routes again."""
    for path in (PACKAGE / "server" / room).glob("*.py"):
        for name in imports(path):
            if name.startswith("llada_exp.server."):
                assert name.split(".")[2] in MAY_IMPORT[room] | {room} | SHARED, f"{path.name} imports {name}"
