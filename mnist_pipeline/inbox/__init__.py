"""What people and programs drop for prediction: where it waits, which night takes it, and how a night is scored."""
