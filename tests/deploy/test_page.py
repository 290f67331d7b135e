"""docs/deployability.md: what it shows works as it stands there. Backup and restore: tests/system."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.deploy.rendering import KUBECTL, ROOT, Manifests, container_of, render
from tests.support.pages import DOCS, assert_answers, blocks

PAGE = DOCS / "deployability.md"


def test_every_command_of_the_page_is_run_by_some_test() -> None:
    sections = ("Secrets", "Backup", "Restore")
    assert [block for section in sections for block in blocks(PAGE, section)] == blocks(PAGE)
    assert all(expected for _, expected in blocks(PAGE))


def test_the_signing_key_is_made_as_it_says(tmp_path: Path) -> None:
    assert_answers(PAGE, {"KEYS": str(tmp_path)}, section="Secrets")
    assert (tmp_path / "audit-signing.pem").stat().st_mode & 0o777 == 0o600


def test_the_overlay_of_ones_own_builds(tmp_path: Path) -> None:
    if not KUBECTL.exists():
        pytest.skip("kubectl comes with the development packages on Linux only")
    (example,) = re.findall(
        r"^```yaml\n# my-hub/kustomization.yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "my-hub").mkdir()
    (tmp_path / "my-hub" / "kustomization.yaml").write_text(example)
    mine = Manifests("my-hub", render(tmp_path / "my-hub"))
    assert container_of(mine.roles["auth-api"])["image"] == "registry.example.com/partner-hub-auth:1.4.2"
    assert mine.settings_of(mine.roles["auth-api"])["TOKEN_ISSUER"] == "https://hub.example.org/auth"
    assert mine.settings_of(mine.roles["gateway"])["GATEWAY_TRUSTED_PROXIES"] == "10.42.0.0/16"
    ingress = mine.named("Ingress", "gateway")
    assert "hub.example.com" not in yaml.safe_dump(ingress)
    settings = [mine.settings_of(role) for role in mine.roles.values()]
    examples = ("hub.example.com", "HX00000")
    left = {
        name for variables in settings for name, value in variables.items() if any(part in value for part in examples)
    }
    assert left == set(), "the example names every setting that must be one's own"
