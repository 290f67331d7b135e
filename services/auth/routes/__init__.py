"""HTTP in, command or query, HTTP out; one module per noun."""

from __future__ import annotations

from services.auth.routes.keys import router as keys
from services.auth.routes.passwords import router as passwords
from services.auth.routes.second_factor import router as second_factor
from services.auth.routes.sessions import router as sessions
from services.auth.routes.users import router as users

ROUTERS = [keys, sessions, passwords, second_factor, users]
