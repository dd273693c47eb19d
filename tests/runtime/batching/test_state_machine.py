"""H-BATCH: any order of requests, deaths, hangs, lies, reloads and scalings (I1 to I4).

More of the same: `python benchmarks/reliability/state_machines.py --examples 5000`.
"""

from hypothesis import HealthCheck, settings
from tests.harness.deployment_machine import CrowdMachine, DeploymentMachine

TestDeployment = DeploymentMachine.TestCase
TestCrowds = CrowdMachine.TestCase
TestDeployment.settings = TestCrowds.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
