"""Plant physics, pure and seeded: ammonia vessels, leaks, rooms, airways, and the instruments that look at them."""
