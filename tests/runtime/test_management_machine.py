"""H-REG in small: any order of changes, faults and restarts leaves what an operator expects."""

from hypothesis import HealthCheck, Phase, settings
from registry_machine import RegistryMachine

TestManagement = RegistryMachine.TestCase
TestManagement.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.generate],  # benchmarks/reliability/state_machines_registry.py makes them small
    suppress_health_check=list(HealthCheck),
)
