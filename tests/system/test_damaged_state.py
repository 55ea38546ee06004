"""State that is cut short, foreign, too open or somebody else's: one line, exit code 1, and the file stays as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Machine
from tests.system.privileges import launcher
from tests.system.processes import NodeProcess, Server, TailboxProcess

pytestmark = pytest.mark.slow

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff not ours" * 500)


def readable_by_all(path: Path) -> None:
    path.chmod(0o644)


def unreadable(path: Path) -> None:
    path.chmod(0o000)


def of_somebody_else(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer_node(path: Path) -> None:
    text = path.read_text()
    assert '"_tailbox-schema": "MQ=="' in text  # 1
    path.write_text(text.replace('"_tailbox-schema": "MQ=="', '"_tailbox-schema": "OTk="'))


def newer_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def lost_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = bytes(len(data) // 2 - 4096)
    path.write_bytes(bytes(data))


def bad_row(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute('UPDATE users SET document = \'{"id": "x"\'')
    database.close()


def content(path: Path) -> bytes | None:
    """None for what the test itself may not read, unless it runs as root."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except PermissionError:
        return None


def assert_refused(process: TailboxProcess, path: Path) -> str:
    """The line it says. The process must end by itself."""
    before = content(path)
    offset = process.log_path.stat().st_size
    process.spawn()
    assert process.process is not None
    assert process.process.wait(15) == 1, process.log[offset:]
    said = process.log[offset:].strip().splitlines()
    assert len(said) == 1, process.log[offset:]
    assert "Traceback" not in said[0]
    assert content(path) == before
    return said[0]


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """State directories of a server and a node that have met, as they left them."""
    directory = Path(tempfile.mkdtemp(prefix="tbs", dir="/tmp"))
    directory.chmod(0o755)
    machine = Machine(directory)
    server = machine.server()
    server.start()
    for number in range(30):
        server.create_key(f"key {number}")
    node = machine.node("alpha", server)
    node.start(server.create_key()["key"])
    assert node.stop()[0] == 0
    assert server.stop()[0] == 0
    yield directory
    shutil.rmtree(directory)


def take_over(template: Path, process: TailboxProcess) -> None:
    """Give a process that never ran the template's state, and an empty log."""
    shutil.copytree(template / process.directory.name, process.directory, dirs_exist_ok=True)
    for path in (process.directory, *process.directory.rglob("*")):
        launcher().give(path)
    process.log_path.touch()


@pytest.fixture
def stopped_server(machine: Machine, template: Path) -> Server:
    server = machine.server()
    take_over(template, server)
    return server


@pytest.fixture
def stopped_node(machine: Machine, template: Path) -> NodeProcess:
    node = machine.node("alpha", machine.server())
    take_over(template, node)
    return node


NODE_DAMAGE = (cut, garbage, readable_by_all, of_somebody_else, a_directory, newer_node)


@pytest.mark.parametrize("damage", NODE_DAMAGE, ids=[damage.__name__ for damage in NODE_DAMAGE])
def test_a_node_refuses_a_state_file_that_is_not_right(stopped_node: NodeProcess, damage: Damage) -> None:
    path = stopped_node.directory / "tailscaled.state"
    damage(path)
    assert str(path) in assert_refused(stopped_node, path)


def test_an_empty_state_file_is_a_new_node(machine: Machine, server: Server) -> None:
    node = machine.node("alpha", server)
    state_file = node.directory / "tailscaled.state"
    state_file.touch(mode=0o600)
    launcher().give(state_file)
    node.start(server.create_key()["key"])
    assert state_file.stat().st_size > 0


DATABASE_DAMAGE = (cut, garbage, unreadable, a_directory, newer_database, lost_pages, bad_row)


@pytest.mark.parametrize("damage", DATABASE_DAMAGE, ids=[damage.__name__ for damage in DATABASE_DAMAGE])
def test_a_coordinator_refuses_a_database_that_is_not_right(stopped_server: Server, damage: Damage) -> None:
    path = stopped_server.directory / "coord" / "tailnet.sqlite"
    damage(path)
    line = assert_refused(stopped_server, path)
    assert str(path) in line or str(path.parent) in line


SECRETS = [
    ("coord/noise-key", garbage),
    ("coord/noise-key", a_directory),
    ("coord/noise-key", readable_by_all),
    ("coord/noise-key", cut),
    ("derp/derper.key", garbage),
    ("derp/derper.key", readable_by_all),
]


@pytest.mark.parametrize(("name", "damage"), SECRETS, ids=lambda value: getattr(value, "__name__", value))
def test_a_server_refuses_a_secret_that_is_not_right(stopped_server: Server, name: str, damage: Damage) -> None:
    path = stopped_server.directory / name
    damage(path)
    line = assert_refused(stopped_server, path)
    assert str(path) in line or str(path.parent) in line


@pytest.mark.parametrize("damage", [garbage, readable_by_all], ids=lambda damage: damage.__name__)
def test_a_development_certificate_that_is_not_right_is_made_anew(stopped_server: Server, damage: Damage) -> None:
    path = stopped_server.directory / "tls" / "development.key"
    before = path.read_bytes()
    damage(path)
    stopped_server.start()
    assert path.read_bytes() != before
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_process_on_the_same_state_is_refused(machine: Machine, server: Server) -> None:
    node = machine.node("alpha", server)
    node.start(server.create_key()["key"])
    second = machine.node("alpha", server, flags=("--socket", f"{machine.directory}/other.sock"))
    os.chmod(machine.directory, 0o777)  # the second node's socket lies there
    second.spawn()
    assert second.process is not None
    assert second.process.wait(15) == 1
    assert "in use" in second.log.splitlines()[-1]
    other = machine.server()
    other.directory = server.directory
    other.log_path = machine.directory / "other.log"
    other.spawn()
    assert other.process is not None
    assert other.process.wait(15) == 1
    assert "Traceback" not in other.log
    assert len(other.log.strip().splitlines()) == 1, other.log
    assert node.is_alive
    assert server.is_healthy()


@pytest.mark.parametrize(
    "flags",
    [("--port=99999",), ("--socks5-server=nonsense",), ("--login-server=ftp://x",), ("--auth-key=file:/nonexistent",)],
)
def test_a_bad_setting_is_one_line(machine: Machine, flags: tuple[str, ...]) -> None:
    node = machine.node("alpha", machine.server(), flags=flags)
    node.spawn()
    assert node.process is not None
    assert node.process.wait(15) != 0
    assert len(node.log.strip().splitlines()) == 1, node.log


def test_a_proxy_port_that_is_taken_is_one_line(machine: Machine, server: Server) -> None:
    node = machine.node("alpha", server)
    node.proxy_port = server.port
    node.spawn(extra={"TAILBOX_AUTH_KEY": server.create_key()["key"]})
    assert node.process is not None
    assert node.process.wait(15) == 1
    assert len(node.log.strip().splitlines()) == 1, node.log
