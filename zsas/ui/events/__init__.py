"""What the page does: each file holds the events of one group, what they call, and their wiring."""
