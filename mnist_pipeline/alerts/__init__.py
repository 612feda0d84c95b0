"""What is said to people: the kinds of alert, what a message looks like, and the doors it leaves through."""
