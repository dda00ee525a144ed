import inspect
import pickle

import pytest

from vouch import errors
from vouch.errors import CorruptVersion, DataLoss, Exhausted, InvalidInput, StorageFull, VouchError

EVERY = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, VouchError)]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_an_error_survives_the_way_between_processes(error):
    there = pickle.loads(pickle.dumps(error("Say what to do.", "MY_REASON")))

    assert type(there) is error
    assert (str(there), there.message, there.reason) == ("Say what to do.", "Say what to do.", "MY_REASON")


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_an_error_has_a_reason_of_its_own_and_a_failing_exit_code(error):
    assert error("x").reason == error.reason == error.reason.upper()
    assert 0 < error.exit_code < 256
    assert sum(error.reason == other.reason for other in EVERY) == 1


def test_the_tree_lets_a_caller_catch_the_general_case():
    assert issubclass(StorageFull, Exhausted)
    assert issubclass(CorruptVersion, DataLoss)
    assert not issubclass(InvalidInput, ValueError)  # a defect of ours must not be mistaken for a user's
