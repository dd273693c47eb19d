"""What is in the tree is in the wheel: what is forgotten is noticed here, not by users."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTS = ("runtime", "handlers", "archiver")


def test_the_wheel_holds_every_module_and_both_commands(tmp_path: Path):
    tree = tmp_path / "tree"
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for root in ROOTS:
        shutil.copytree(ROOT / root, tree / root, ignore=without)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)

    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)

    (wheel,) = tmp_path.glob("marserve-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        commands = archive.read(next(n for n in packed if n.endswith("entry_points.txt"))).decode()
    modules = {
        str(path.relative_to(tree / root))
        for root in ROOTS
        for path in (tree / root).rglob("*")
        if path.suffix in (".py", ".pyi", ".proto") or path.name == "py.typed"
    }
    assert modules - packed == set()
    assert {name for name in packed if ".dist-info/" not in name} - modules == set()
    assert not any(name.startswith(("model_archiver", "marserve_torchserve")) for name in packed)
    assert "marserve = marserve.cli:main" in commands
    assert "archiver = marserve_archiver.cli:main" in commands
