"""Finds the packages under the three roots; every other fact is in setup.cfg."""

from setuptools import find_packages, setup

ROOTS = {"runtime": "marserve", "handlers": "marserve_handlers", "archiver": "marserve_archiver"}

setup(
    packages=[name for root in ROOTS for name in find_packages(root)],
    package_dir={package: f"{root}/{package}" for root, package in ROOTS.items()},
)
