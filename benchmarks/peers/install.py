"""Install the peers, each into an environment of its own, outside the repository.

    python benchmarks/peers/install.py [--into DIR] [NAME ...]

NAME is a folder of `catalogue.py` (torchserve, mosec, pytriton, litserve, bentoml, ray, fastapi);
without one all are installed, which takes a few GB because of torch. An environment that is there
is left alone. DIR is `$MARSERVE_PEERS`, or `~/.cache/marserve-peers`. From the distribution come
`wrk` and, for TorchServe, Java 17 (Debian: wrk, openjdk-17-jre-headless); PyTriton wants the
distribution's own Python with its shared library (python3, python3-venv, libpython3.11).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers.catalogue import PEERS, Peer
from peers.place import add_option

SYSTEM_PYTHON = "/usr/bin/python3"


def main() -> None:
    """Install what is asked for and missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    add_option(parser, "--into")
    options = parser.parse_args()
    known = {peer.folder: peer for peer in PEERS}
    for name in options.names or known:
        if name not in known:
            sys.exit(f"There is no peer {name!r}. The peers are {', '.join(known)}.")
        _install(known[name], options.into)


def _install(peer: Peer, folder: Path) -> None:
    if peer.is_installed(folder):
        print(f"{peer.name} is in {folder / peer.folder} already.", flush=True)
        return
    print(f"Installing {peer.name}: {' '.join(peer.packages)}", flush=True)
    python = SYSTEM_PYTHON if peer.takes_system_python else sys.executable
    environment = folder / peer.folder
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    subprocess.run(
        [str(environment / "bin" / "pip"), "install", "--quiet", *peer.packages], check=True
    )


if __name__ == "__main__":
    main()
