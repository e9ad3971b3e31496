"""Counts what tests expect and find."""

passed = failed = 0


def expect(good, what):
    """Takes note of one expectation, and says what was wrong where it did not hold."""
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("  " + what)


def report():
    """Prints the counts and returns the exit code for them: to have expected nothing is a failure too."""
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)
