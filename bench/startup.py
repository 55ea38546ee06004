"""How long starting takes: `server.py --role=coord,derp` to its first answer, and `tailbox status` beside a node.

```text
python bench/startup.py [runs]
```

Goals: 1.5 s and 0.3 s. The server's first start makes keys and a database; later ones find them.
"""

from __future__ import annotations

import http.client
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 30.0
POLL_S = 0.005


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="tb-startup-") as directory:
        state = Path(directory)
        report("server.py, first start", [start_server(state / f"first-{number}") for number in range(runs)])
        report("server.py, later starts", [start_server(state / "first-0") for _ in range(runs)])
        report("tailbox status", time_status(state, runs))


def report(what: str, measured: list[tuple[float, float]]) -> None:
    seconds, processor_s = [each[0] for each in measured], [each[1] for each in measured]
    median, worst = statistics.median(seconds), max(seconds)
    print(
        f"{what:24} median {median * 1000:6.0f} ms, worst {worst * 1000:6.0f} ms of {len(seconds)}; "
        f"processor time {statistics.median(processor_s) * 1000:.0f} ms, which a busy machine changes less"
    )


def processor_seconds(pid: int) -> float:
    """What a running process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_processor_seconds() -> float:
    """What children that have ended used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_server(state: Path) -> tuple[float, float]:
    """Seconds from the start of the process to a 200 of /healthz, and of processor time."""
    port = free_port()
    started_at = time.perf_counter()
    process = spawn_server(state, port)
    try:
        wait_healthy(port)
        return time.perf_counter() - started_at, processor_seconds(process.pid)
    finally:
        end(process)


def time_status(state: Path, runs: int) -> list[tuple[float, float]]:
    """Seconds of the whole command, with a node up, and of processor time."""
    port = free_port()
    server = spawn_server(state / "server", port)
    node = None
    try:
        wait_healthy(port)
        key = tailbox("keys", "create", f"--state-dir={state}/server/coord").stdout.strip()
        command = ["up", f"--login-server=http://127.0.0.1:{port}", "--hostname=bench", f"--state-dir={state}/node"]
        node = subprocess.Popen(
            [sys.executable, "-m", "tailbox", *command],
            cwd=ROOT,
            env={**os.environ, "TAILBOX_AUTH_KEY": key},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while tailbox("status", f"--state-dir={state}/node").returncode != 0:
            if time.monotonic() > deadline:
                raise SystemExit("the node does not come up")
        seconds = []
        for _ in range(runs):
            started_at, used_s = time.perf_counter(), children_processor_seconds()
            tailbox("status", f"--state-dir={state}/node")
            seconds.append((time.perf_counter() - started_at, children_processor_seconds() - used_s))
        return seconds
    finally:
        if node is not None:
            end(node)
        end(server)


def spawn_server(state: Path, port: int) -> subprocess.Popen[bytes]:
    flags = ["--role=coord,derp", f"--listen=127.0.0.1:{port}", f"--state-dir={state}", "--stun-port=-1", "--verbose=0"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "server.py"), *flags],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def tailbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tailbox", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )


def wait_healthy(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(POLL_S)
        finally:
            connection.close()
    raise SystemExit("the server does not answer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
