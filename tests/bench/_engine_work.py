"""What all contenders of the engine's benchmark do, by the names under which the ledger has it."""

PIPELINE = ("1", "2", "3", "4", "5")  # one after the other
FAN = tuple(f"fan-{number}" for number in range(100))  # side by side, and then:
JOIN = "join"
ASKED, ANSWERED = "asked", "answered"
