"""The commands of docs/deployability.md: a running system is dumped, restored into another server, and proven there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from local import postgres
from local.client import Client
from local.environment import STORING
from local.postgres import PrivatePostgres
from local.processes import eventually, free_port
from local.sql import query
from tests.support.pages import DOCS, assert_answers
from tests.support.stacks import ROOT, run_dir
from tests.system.conftest import People

pytestmark = pytest.mark.timeout(400)

PAGE = DOCS / "deployability.md"


def at(url: str, *, server: str, database: str) -> str:
    """Give the same door at another server."""
    parts = urlsplit(url)
    place = urlsplit(server).netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{place}", path=f"/{database}"))


class Elsewhere:
    """Another PostgreSQL, with nothing in it, and what a system there would be told."""

    def __init__(self, system: dict[str, Any], server: PrivatePostgres) -> None:
        self._system = system
        self._server = server
        self._secrets = run_dir("contract") / "secrets"
        self.checkpoints = run_dir("contract") / "audit-checkpoints"

    def make_database(self, name: str) -> str:
        query(self._server.url, f"CREATE DATABASE {name}")
        return name

    def environment(self, database: str) -> dict[str, str]:
        urls = {
            f"{service.upper()}_DATABASE_URL": at(
                self._system["database_urls"][service], server=self._server.url, database=database
            )
            for service in STORING
        }
        return urls | {
            "OWNER_DATABASE_URL": at(self._server.url, server=self._server.url, database=database),
            "AUDIT_AMQP_URL": "amqp://nobody:needed@127.0.0.1:1/",
            "AUDIT_SECRET_KEYS": (self._secrets / "audit-key").read_text(),
            "AUDIT_SIGNING_KEY_FILE": str(self._secrets / "audit-signing.pem"),
            "AUTH_AMQP_URL": "amqp://nobody:needed@127.0.0.1:1/",
            "AUTH_SECRET_KEYS": (self._secrets / "auth-key").read_text(),
        }

    def run(self, database: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {"PATH": path} | self.environment(database) | variables
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def verify(self, database: str, checkpoints: Path) -> tuple[int, str]:
        command = (sys.executable, "-m", "services.audit", "verify")
        done = self.run(database, *command, AUDIT_CHECKPOINT_DIR=str(checkpoints))
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def elsewhere(system: dict[str, Any]) -> Iterator[Elsewhere]:
    binaries, dump = postgres.find_binaries(), shutil.which("pg_dump")
    if binaries is None or dump is None:
        pytest.skip("needs the programs of a PostgreSQL on this machine")
    ((running,),) = query(system["postgres_url"], "SELECT current_setting('server_version_num')::int / 10000")
    version = subprocess.run([dump, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < running:
        pytest.skip(f"the pg_dump of this machine is older than the server, which is PostgreSQL {running}")
    home = run_dir("restored")
    home.mkdir(parents=True, exist_ok=True)
    server = PrivatePostgres.create(home, binaries, unsafe_fast=True)
    try:
        server.wait_until_ready()
        yield Elsewhere(system, server)
    finally:
        server.destroy()


def records(system: dict[str, Any]) -> int:
    ((count,),) = query(system["postgres_url"], "SELECT count(*) FROM audit.records")
    return int(count)


def vouched_for(system: dict[str, Any]) -> int:
    ((seq,),) = query(system["postgres_url"], "SELECT coalesce(max(seq), 0) FROM audit.checkpoints")
    return int(seq)


def sign_in_and_see_it_vouched_for(system: dict[str, Any]) -> None:
    """Do something that leaves evidence, and wait until a signed checkpoint outside the database covers it."""
    before = records(system)
    account = system["accounts"]["admin"]
    with Client(system["gateway_url"]) as client:
        client.sign_in(account["email"], account["password"])
    assert eventually(lambda: records(system) > before, 30)
    goal = records(system)
    assert eventually(lambda: vouched_for(system) >= goal, 60)
    assert eventually(lambda: kept_outside() >= goal, 30)


def kept_outside() -> int:
    """Read up to which record the newest checkpoint outside the database vouches."""
    files = (run_dir("contract") / "audit-checkpoints").glob("checkpoints-*.txt")
    notes = "\n".join(path.read_text() for path in files)
    return max(map(int, re.findall(r"^partner-hub/audit/\S+\n(\d+)$", notes, re.MULTILINE)), default=0)


@pytest.fixture(scope="module")
def backup(
    system: dict[str, Any], people: People, elsewhere: Elsewhere, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A backup of the running system, made by the commands of the page."""
    headers = {"authorization": f"Bearer {people.token('admin')}"}
    body = {
        "sponsorId": 6,
        "channel": "SMS",
        "customMessage": "Merhaba {farmerName}: {deepLink}",
        "recipients": [{"phone": "05421396386", "farmerName": "Ahmet", "codeCount": 1, "packageTier": "M"}],
    }
    url = f"{system['gateway_url']}/api/Sponsorship/admin/farmer/invitations/bulk"
    assert httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False).is_success
    sign_in_and_see_it_vouched_for(system)
    folder = tmp_path_factory.mktemp("backups")
    environment = {
        "OWNER_DATABASE_URL": system["postgres_url"],
        "BACKUPS": str(folder),
        "AUDIT_CHECKPOINT_DIR": str(elsewhere.checkpoints),
    }
    assert_answers(PAGE, environment, section="Backup")
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def restored(backup: Path, elsewhere: Elsewhere) -> str:
    """The name of a database on another server, restored by the commands of the page."""
    name = elsewhere.make_database("restored")
    assert_answers(PAGE, elsewhere.environment(name) | {"FOLDER": str(backup)}, section="Restore")
    return name


def test_on_another_server_the_restored_log_is_proven_and_people_sign_in(
    system: dict[str, Any], restored: str, elsewhere: Elsewhere
) -> None:
    environment = elsewhere.environment(restored)
    for service in ("referrals", "invitations"):
        ((role,),) = query(environment[f"{service.upper()}_DATABASE_URL"], "SELECT current_user")
        assert role == f"partner_hub_{service}", "the role is there, with the password of the secret"
    ((phones,),) = query(environment["INVITATIONS_DATABASE_URL"], "SELECT count(*) FROM invitations")
    assert phones > 0
    port = free_port()
    command = [sys.executable, "-m", "services.auth", "api"]
    variables = {"PATH": os.environ["PATH"], "AUTH_PORT": str(port)} | environment
    account = system["accounts"]["admin"]
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            assert eventually(lambda: _is_ready(url), 60)
            with Client(url) as client:
                assert client.sign_in(account["email"], account["password"]).token
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_database_that_is_not_empty_is_left_alone(restored: str, backup: Path, elsewhere: Elsewhere) -> None:
    done = elsewhere.run(restored, "deploy/backup/restore", str(backup))
    assert done.returncode == 1
    assert done.stderr.startswith("The database is not empty, it holds audit, ")
    done = elsewhere.run(restored, "deploy/backup/restore", str(backup.parent))
    assert "holds no backup: roles.sql is missing" in done.stderr


def test_a_backup_that_fails_leaves_no_folder_that_looks_like_one(elsewhere: Elsewhere, tmp_path: Path) -> None:
    name = elsewhere.make_database("to_fail")
    owner = elsewhere.environment(name)["OWNER_DATABASE_URL"].replace("/to_fail", "/no_such_database")
    done = elsewhere.run(name, "deploy/backup/backup", str(tmp_path), OWNER_DATABASE_URL=owner)
    assert done.returncode != 0
    assert "no_such_database" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_older_backup_beside_newer_checkpoints_is_said_to_be_short(
    system: dict[str, Any], restored: str, elsewhere: Elsewhere
) -> None:
    sign_in_and_see_it_vouched_for(system)
    code, said = elsewhere.verify(restored, elsewhere.checkpoints)
    assert code == 1
    assert "TAIL_SHORT" in said


class PlainDump:
    """A dump as text, as somebody with bad intentions would edit it."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")

    def table(self, name: str) -> tuple[list[str], list[int]]:
        """Give the columns of a table and the lines of its rows, in whichever partitions of it they are."""
        begun = [n for n, line in enumerate(self.lines) if re.match(rf"COPY {name}\S* \(seq, |COPY {name} \(", line)]
        columns = re.findall(r"\((.*)\)", self.lines[begun[0]])[0].split(", ")
        return columns, [n for start in begun for n in range(start + 1, self.lines.index("\\.", start))]

    def edit(self, line: int, columns: list[str], **values: str) -> None:
        cells = self.lines[line].split("\t")
        for column, value in values.items():
            cells[columns.index(column)] = value
        self.lines[line] = "\t".join(cells)

    def cell(self, line: int, columns: list[str], column: str) -> str:
        return self.lines[line].split("\t")[columns.index(column)]


def change_what_was_done(dump: PlainDump) -> None:
    columns, rows = dump.table("audit.records_")
    dump.edit(rows[0], columns, action="auth.nothing.happened")


def change_the_evidence_itself(dump: PlainDump) -> None:
    columns, rows = dump.table("audit.records_")
    payload = dump.cell(rows[0], columns, "payload")
    dump.edit(rows[0], columns, payload=payload[:-4] + ("2020" if payload[-4:] != "2020" else "2121"))


def cut_off_the_end_as_if_it_never_was(dump: PlainDump) -> None:
    columns, rows = dump.table("audit.records_")
    last = rows[-1]
    head_columns, (head,) = dump.table("audit.chain_head")
    dump.edit(
        head,
        head_columns,
        seq=str(int(dump.cell(last, columns, "seq")) - 1),
        hash=dump.cell(last, columns, "prev_hash"),
    )
    seq = dump.cell(last, columns, "seq")
    # The table's own checkpoints that cover it go as well; those outside remain.
    checkpoint_columns, checkpoints = dump.table("audit.checkpoints")
    gone = {last} | {line for line in checkpoints if int(dump.cell(line, checkpoint_columns, "seq")) >= int(seq)}
    dump.lines = [text for number, text in enumerate(dump.lines) if number not in gone]


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (change_what_was_done, "COLUMN"),
        (change_the_evidence_itself, "HASH"),
        (cut_off_the_end_as_if_it_never_was, "TAIL_SHORT"),
    ],
)
def test_a_dump_that_somebody_changed_does_not_pass(
    restored: str, backup: Path, elsewhere: Elsewhere, tmp_path: Path, tamper: Any, finding: str
) -> None:
    assert restored
    plain = tmp_path / "plain.sql"
    command = ["pg_restore", "--no-owner", "--file", str(plain), str(backup / "database.dump")]
    subprocess.run(command, check=True)
    dump = PlainDump(plain.read_text())
    tamper(dump)
    plain.write_text("\n".join(dump.lines))
    name = elsewhere.make_database(tamper.__name__)
    options = ("--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--file", str(plain))
    done = elsewhere.run(name, "psql", elsewhere.environment(name)["OWNER_DATABASE_URL"], *options)
    assert done.returncode == 0, done.stderr
    code, said = elsewhere.verify(name, backup / "audit-checkpoints")
    assert code == 1, said
    assert finding in said
