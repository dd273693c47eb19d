"""What a worker cannot do, whatever its handler tries (SEC-31, SEC-32; F38).

The tables say what is denied where the kernel has what it takes; they hold on any kernel.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from running_server import Server, end

from marserve.workers import linux, sandbox

ABI = linux.landlock_abi()
HAS_FILES = ABI >= sandbox.LEAST_ABI
HAS_SCOPES = ABI >= linux.SCOPE_ABI
HAS_SECCOMP = linux.has_seccomp()
CAN_BE_STRICT = not sandbox.missing(ABI, HAS_SECCOMP)


def denied(by, error, otherwise="done"):
    return error if by else otherwise


@pytest.fixture(scope="module")
def root():
    """Outside of all temporary folders, which every worker may write."""
    path = Path(tempfile.mkdtemp(prefix=".marserve-test-", dir=Path.home()))
    yield path
    shutil.rmtree(path)


def started(root, mode, monkeypatch):
    server = Server(root / mode)
    (server.root / "secret").write_text("x")
    (server.root / "out").mkdir()
    server.pack("escaping", "escaping.py")
    server.pack("other", "echo.py")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("HF_TOKEN", "wanted")
    return server.start(
        load_models="escaping.mar,other.mar",
        sandbox=mode,
        sandbox_writable=server.root / "out",
        worker_env_allow="HF_TOKEN",
    )


@pytest.fixture(scope="module")
def servers(root):
    with pytest.MonkeyPatch.context() as monkeypatch:
        modes = ["default", "strict"] if CAN_BE_STRICT else ["default"]
        running = {mode: started(root, mode, monkeypatch) for mode in modes}
    yield running
    for server in running.values():
        end(server)


def model_dir(server, name):
    [pid] = server.pids(name)
    return Path(f"/proc/{pid}/cwd").readlink()


def attempts(server, abstract):
    root, [pid], [other] = server.root, server.pids("escaping"), server.pids("other")
    own, foreign = model_dir(server, "escaping"), model_dir(server, "other")
    leader = server.process.pid
    return {
        "write in the home": ("write", str(Path.home() / ".marserve-escaped")),
        "write beside the logs": ("write", str(root / "logs" / "escaped")),
        "change a log": ("overwrite", str(root / "logs" / "model_log.log")),
        "write into the model store": ("write", str(root / "store" / "escaped.mar")),
        "change an archive": ("overwrite", str(root / "store" / "other.mar")),
        "write into another model": ("write", str(foreign / "escaped.py")),
        "change another model": ("overwrite", str(foreign / "echo.py")),
        "make a folder in the cache": ("make", str(root / "cache" / "escaped")),
        "write into the own model": ("write", str(own / "unpacked")),
        "write where allowed": ("write", str(root / "out" / "result")),
        "write to /tmp": ("write", f"/tmp/marserve-escaped-{pid}"),
        "write to /dev/shm": ("write", f"/dev/shm/marserve-escaped-{pid}"),
        "move from one to the other": (
            "rename",
            [f"/dev/shm/marserve-escaped-{pid}a", f"/dev/shm/marserve-escaped-{pid}b"],
        ),
        "write to /dev/null": ("overwrite", "/dev/null"),
        "read another model": ("read", str(foreign / "echo.py")),
        "read a file of the user": ("read", str(root / "secret")),
        "read the own model": ("read", str(own / "escaping.py")),
        "list the folders of servers": ("read_folder", tempfile.gettempdir()),
        "read the server's memory": ("read", f"/proc/{leader}/mem"),
        "read the server's environment": ("read", f"/proc/{leader}/environ"),
        "read another worker's memory": ("read", f"/proc/{other}/mem"),
        "signal the server": ("send_signal", leader),
        "signal another worker": ("send_signal", other),
        "signal the zygote": ("send_signal", psutil.Process(pid).ppid()),
        "trace the server": ("ptrace", leader),
        "copy the server's memory": ("read_memory", leader),
        "connect": ("connect", server.address("inference")),
        "bind": ("bind", None),
        "send datagrams": ("udp", None),
        "connect to an abstract socket": ("connect_abstract", abstract),
        **{f"call {name}": ("call", name) for name in CALLS},
        "clone into a world of its own": ("clone", None),
        "clone in a manner that no filter sees": ("clone3", None),
        "a secret of the server": ("variable", "AWS_SECRET_ACCESS_KEY"),
        "a secret that is passed on": ("variable", "HF_TOKEN"),
    }


CALLS = ("mount", "unshare", "keyctl", "bpf", "io_uring_setup", "userfaultfd")


def expected(mode):
    is_strict = mode == "strict"
    outside = denied(HAS_FILES, "EACCES")
    only_if_strict = denied(is_strict, "EACCES")
    return {
        "write in the home": outside,
        "write beside the logs": outside,
        "change a log": outside,
        "write into the model store": outside,
        "change an archive": outside,
        "write into another model": outside,
        "change another model": outside,
        "make a folder in the cache": outside,
        "write into the own model": only_if_strict,
        "write where allowed": "done",
        "write to /tmp": only_if_strict,
        "write to /dev/shm": "done",
        "move from one to the other": "done",
        "write to /dev/null": "done",
        "read another model": only_if_strict,
        "read a file of the user": only_if_strict,
        "read the own model": "done",
        "list the folders of servers": only_if_strict,
        "read the server's memory": outside,
        "read the server's environment": outside,
        "read another worker's memory": outside,
        "signal the server": denied(HAS_SCOPES, "EPERM"),
        "signal another worker": denied(HAS_SCOPES, "EPERM"),
        "signal the zygote": denied(HAS_SCOPES, "EPERM"),
        "trace the server": "EPERM",
        "copy the server's memory": "EPERM",
        "connect": only_if_strict,
        "bind": only_if_strict,
        "send datagrams": only_if_strict,
        "connect to an abstract socket": denied(HAS_SCOPES, "EPERM"),
        **{f"call {name}": "EPERM" for name in CALLS},
        "clone into a world of its own": "EPERM",
        "clone in a manner that no filter sees": "ENOSYS",
        "a secret of the server": None,
        "a secret that is passed on": "wanted",
    }


def test_every_attempt_to_get_out_ends_as_the_table_says(servers):
    with socket.socket(socket.AF_UNIX) as listener:
        abstract = f"marserve-test-{os.getpid()}"
        listener.bind(b"\0" + abstract.encode())
        listener.listen()
        for mode, server in servers.items():
            body = json.dumps(attempts(server, abstract)).encode()

            told = server.predict("escaping", body).json()

            assert told == expected(mode), mode
            assert server.predict("other").status == 200


def test_a_worker_is_shut_in_before_it_loads_and_holds_nothing_of_the_server(servers):
    for mode, server in servers.items():
        body = json.dumps({name: (name, None) for name in ("process", "descriptors", "temporary")})

        told = server.predict("escaping", body.encode()).json()

        process = told["process"]
        assert process.pop("cwd") == str(model_dir(server, "escaping"))
        assert process == {
            "NoNewPrivs": "1",
            "Seccomp": "2" if HAS_SECCOMP else "0",
            "Umask": "0077",
            "core": [0, 0],
            "oom": True,
        }, mode
        assert [fd for fd in told["descriptors"] if fd > 2] == [200]  # its channel
        folder = Path(told["temporary"]).parent
        assert folder.parent.name.startswith("marserve-run-")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_socket_of_a_worker_has_a_name(servers):
    """SEC-30: nobody can find it, squat on it or connect to it."""
    for server in servers.values():
        pids = [child.pid for child in server.children()]
        inodes = set()
        for pid in pids:
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                target = str(fd.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        assert inodes
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        named = [line for line in lines if line.split()[6] in inodes and len(line.split()) > 7]
        assert named == []


def test_the_folder_for_temporary_files_goes_with_its_worker(servers):
    server = servers["default"]
    body = json.dumps({"t": ("temporary", None)}).encode()
    folder = Path(server.predict("escaping", body).json()["t"]).parent
    [pid] = server.pids("escaping")

    os.kill(pid, signal.SIGKILL)

    server.wait_until(lambda: not folder.exists())
    assert Path(server.predict("escaping", body).json()["t"]).parent != folder


def test_a_model_may_be_shut_in_more_tightly_and_not_more_loosely(servers, tmp_path):
    server = servers["default"]
    for name, text in (
        ("tight", "sandbox: strict"),
        ("loose", "sandbox: off"),
        ("deaf", "network: false"),
    ):
        config = tmp_path / f"{name}.yaml"
        config.write_text(text + "\n")
        server.pack(name, "escaping.py", config_file=str(config))
        reply = server.manage("POST", f"/models?url={name}.mar&initial_workers=1&synchronous=true")
        assert (reply.status == 200) == (name != "tight" or CAN_BE_STRICT)
    body = json.dumps(
        {
            "read": ("read", str(server.root / "secret")),
            "call": ("call", "mount"),
            "udp": ("udp", None),
        }
    ).encode()

    told = {name: server.predict(name, body).json() for name in ("loose", "deaf")}

    assert told == {
        "loose": {"read": "done", "call": "EPERM", "udp": "done"},
        "deaf": {"read": "done", "call": "EPERM", "udp": "EACCES"},
    }
    if CAN_BE_STRICT:
        strict = server.predict("tight", body).json()
        assert strict == {"read": "EACCES", "call": "EPERM", "udp": "EACCES"}


FRESH = """
import os, sys
from pathlib import Path
from marserve.workers import sandbox
from marserve.workers.messages import Confinement
sandbox.confine(Confinement(mode="default", protected=[sys.argv[1]]))
for path in sys.argv[2:]:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)  # as libraries do
        Path(path, "file").write_text("x")
        print("done")
    except PermissionError:
        print("denied")
"""


@pytest.mark.parametrize("own", [".cache/marserve", "server"])
def test_libraries_can_make_their_caches_in_a_home_that_has_none(root, own):
    """Wherever the server's own folder is; it stays closed."""
    home = Path(tempfile.mkdtemp(dir=root))
    elsewhere = home / "data" / "deep"
    wanted = [
        *(home / "nltk_data" / "corpora", home / ".keras" / "models", home / ".EasyOCR" / "model"),
        *(home / ".cache" / "whisper", home / ".cache" / "vllm" / "x", home / ".cache" / "torch"),
        *(elsewhere / "hf" / "hub", elsewhere / "torch", elsewhere / "nltk1", elsewhere / "nltk2"),
        home / "tilde",
    ]
    forbidden = [home / "other", home / own / "models", home / own / "hf", elsewhere / "other"]
    named = {
        "HF_HOME": elsewhere / "hf",
        "TORCH_HOME": elsewhere / "torch",
        "NLTK_DATA": f"{elsewhere / 'nltk1'}:{elsewhere / 'nltk2'}",
        "HF_DATASETS_CACHE": home / own / "hf",
        "NUMBA_CACHE_DIR": "~/tilde",
    }
    (home / own).mkdir(parents=True)

    done = subprocess.run(
        [sys.executable, "-c", FRESH, home / own, *wanted, *forbidden],
        env={"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
        | {name: str(value) for name, value in named.items()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    told = dict(zip([*wanted, *forbidden], done.stdout.split(), strict=True))
    assert told == dict.fromkeys(wanted, "done") | {
        path: denied(HAS_FILES, "denied") for path in forbidden
    }
    if HAS_FILES:
        assert list((home / own).iterdir()) == []
    assert stat.S_IMODE((home / "nltk_data").stat().st_mode) == 0o700


def test_where_a_load_fails_the_log_names_what_is_hidden_and_the_setting_that_helps(servers):
    server = servers["default"]
    server.pack("broken", "broken_initialize.py")

    server.manage("POST", "/models?url=broken.mar&initial_workers=1&synchronous=true")

    log = server.root / "logs" / "model_log.log"
    advice = re.compile("Hidden from this worker: .*AWS_SECRET_ACCESS_KEY.*worker_env_allow")
    server.wait_until(lambda: advice.search(log.read_text()))


def test_who_writes_where_it_may_not_is_told_which_setting_helps(servers):
    server = servers["default"]
    path = server.root / "logs" / "results.txt"

    server.predict("escaping", str(path).encode())

    log = server.root / "logs" / "model_log.log"
    if HAS_FILES:
        advice = f"The sandbox forbids it: list {path} in sandbox_writable"
        server.wait_until(lambda: advice in log.read_text())
