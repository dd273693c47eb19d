from pathlib import Path

from marserve.config import build
from marserve.config_dump import Surroundings, config_dump
from marserve.config_source import Source

HERE = Surroundings(
    version="0.12.0 (MarServe 1.0)",
    home=Path("/opt/marserve"),
    cwd=Path("/srv"),
    temp_dir=Path("/tmp"),
    gpus=0,
    cpus=2,
    python="/usr/bin/python3",
)
BARE = """\
Torchserve version: 0.12.0 (MarServe 1.0)
TS Home: /opt/marserve
Current directory: /srv
Temp directory: /tmp
Metrics config path: N/A
Number of GPUs: 0
Number of CPUs: 2
Max heap size: N/A
Python executable: /usr/bin/python3
Config file: N/A
Inference address: http://127.0.0.1:8080
Management address: http://127.0.0.1:8081
Metrics address: http://127.0.0.1:8082
Model Store: N/A
Initial Models: N/A
Log dir: /srv/logs
Metrics dir: /srv/logs
Netty threads: 0
Netty client threads: 0
Default workers per model: 0
Blacklist Regex: N/A
Maximum Response Size: 6553500
Maximum Request Size: 6553500
Limit Maximum Image Pixels: true
Prefer direct buffer: false
Allowed Urls: []
Custom python dependency for model allowed: false
Enable metrics API: true
Metrics mode: PROMETHEUS
Disable system metrics: false
Workflow Store: N/A
CPP log config: N/A
Model config: N/A
System metrics command: N/A
Model API enabled: true"""


def dumped(text, overrides=None):
    source = Source(Path("/srv/c.properties"), text)
    config = build(source, overrides or {}, {"HOME": "/h"}, Path("/srv")).config
    return dict(line.split(": ", 1) for line in config_dump(config, HERE))


def test_the_labels_are_those_of_torchserve_in_its_order():
    config = build(Source(), {}, {"HOME": "/h"}, Path("/srv")).config
    assert config_dump(config, HERE) == BARE.splitlines()


def test_what_is_set_is_shown():
    shown = dumped(
        "model_store=store\nworkflow_store=war\nblacklist_env_vars=A.*\nallowed_urls=a,b\n"
        'models={\\\n "m": {\\\n  "1": {}}}\nenable_metrics_api=false\nmetrics_mode=log\n',
        {"load_models": "probe=probe.mar,fn.mar"},
    )
    expected = {
        "Config file": "/srv/c.properties",
        "Model Store": "/srv/store",
        "Workflow Store": "/srv/war",
        "Blacklist Regex": "A.*",
        "Allowed Urls": "[a, b]",
        "Initial Models": "probe=probe.mar,fn.mar",
        "Model config": '{"m": {"1": {}}}',
        "Metrics address": "N/A",
        "Metrics mode": "LOG",
    }
    assert expected.items() <= shown.items()


def test_everything_of_the_store_is_all():
    assert dumped("load_models=ALL")["Initial Models"] == "all"


def test_no_secret_is_shown():
    assert "hunter2" not in str(dumped("keystore=k\nkeystore_pass=hunter2"))
