import pytest

pytest.register_assert_rewrite("tests.end_to_end.operator_days")
