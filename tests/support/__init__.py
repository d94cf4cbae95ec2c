"""What the tests of the loop share: nothing here knows a concrete test."""
