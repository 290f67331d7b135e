"""The distribution's packages, for a machine that has no server yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from local.errors import LocalError
from local.progress import say, step

# A package that is installed starts its service, unless policy-rc.d forbids it (invoke-rc.d(8): 101 means "not
# allowed"). We want the programs, not the machine's own instances; what was there before is put back.
INSTALL = """
set -eu
policy=/usr/sbin/policy-rc.d
restore() {
  rm -f "$policy"
  [ ! -e "$policy.partner-hub" ] || mv "$policy.partner-hub" "$policy"
}
[ ! -e "$policy" ] || mv "$policy" "$policy.partner-hub"
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\\nexit 101\\n' >"$policy"
chmod 755 "$policy"
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
"""


def can_install() -> bool:
    """Whether this is Debian or a relative of it, and we may install packages without asking for a password."""
    return shutil.which("apt-get") is not None and _as_root() is not None


def install(packages: list[str]) -> None:
    """Install packages without starting what they contain."""
    prefix = _as_root() or []
    say(f"Installing the distribution's packages with apt-get{' and sudo' if prefix else ''}: {', '.join(packages)}")
    with tempfile.NamedTemporaryFile("w+", prefix="partner-hub-apt-", suffix=".log") as log:
        with step(f"apt-get install {' '.join(packages)}"):
            done = subprocess.run(
                [*prefix, "/bin/sh", "-c", INSTALL, "install", *packages],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            end = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-15:])
            raise LocalError(f"apt-get could not install {' '.join(packages)}; the end of its output:\n{end}")


def _as_root() -> list[str] | None:
    """Give what to put before a command so that root runs it; None if we may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None
