"""Tables that go into a store."""
