"""The operations of the management port are data that make sense."""

from marserve.protocols.management_api import OPERATIONS, TOKEN_OPERATION


def test_every_operation_has_an_id_of_its_own():
    ids = [operation.id for operation in (*OPERATIONS, TOKEN_OPERATION)]
    assert len(ids) == len(set(ids))


def test_no_method_of_a_path_means_two_things():
    rows = [(one.method, path) for one in OPERATIONS for path in one.paths]
    assert len(rows) == len(set(rows))


def test_what_changes_models_is_refused_where_models_may_not_be_changed():
    assert {one.id for one in OPERATIONS if one.changes_models} == {
        *("registerModel", "unregisterModel", "registerWorkflow", "unregisterWorkflow"),
    }
    assert all(405 in one.statuses for one in OPERATIONS if one.changes_models)
