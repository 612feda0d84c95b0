"""Jobs made of ops, for what assets do not show: work whose number of steps is known only when it runs."""
