"""A check that something is refused."""

import pytest


def refused(error, message, function, *arguments, **options):
    """Check that a call raises an error whose message a regular expression matches."""
    with pytest.raises(error, match=message):
        function(*arguments, **options)
