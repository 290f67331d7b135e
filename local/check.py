"""All checks of the code, each by its own tool; every tool runs, so that one look shows everything."""

import subprocess
import sys
from pathlib import Path

from local.progress import say

TOOLS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-logo"],
    "locks": ["python", "-m", "local.lock", "--check"],
}


def main() -> None:
    """Run all tools; the exit code says whether all were content."""
    failed = []
    for name, (tool, *arguments) in TOOLS.items():
        say(f"── {name}: {tool} {' '.join(arguments)}")
        if subprocess.run([Path(sys.executable).with_name(tool), *arguments], check=False).returncode:
            failed.append(name)
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
